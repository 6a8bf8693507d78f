update tree
set owner = ?, revision = min(revision, 9223372036854775806) + 1, state = iif(state < 3, 0, state), ready_at = null, needs = null, aside = null
where id = ?
