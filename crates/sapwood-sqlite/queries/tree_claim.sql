update tree
set owner = ?, revision = revision + 1, state = 0, ready_at = null, needs = null
where id = ?
