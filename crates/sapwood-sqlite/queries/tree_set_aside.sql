-- Sets a tree aside that its owner cannot drive. No row touched: it is not this worker's.
update tree
set owner = null, revision = min(revision, 9223372036854775806) + 1, state = iif(state = 3, 3, 2), ready_at = null, needs = null, aside = ?3
where id = ?2 and owner = ?1
