-- Sets a tree aside that its owner cannot drive; the outcome of a settled one (its state is 3 or more) stays. No row touched: it is not this worker's.
update tree
set owner = null, revision = min(revision, 9223372036854775806) + 1, 
    state = iif(state < 3, 2, state), ready_at = null, needs = null, aside = ?3
where id = ?2 and owner = ?1
