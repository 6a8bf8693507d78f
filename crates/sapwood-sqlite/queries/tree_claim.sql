update tree
set owner = ?, revision = min(revision, 9223372036854775806) + 1, state = 0, ready_at = null, needs = null, aside = null
where id = ?
