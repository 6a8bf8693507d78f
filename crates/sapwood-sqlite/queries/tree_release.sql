-- A turn that releases its tree. No row touched: refused.
update tree
set revision = revision + 1, applied = control, state = ?, closing = ?, number = ?, settled_at = coalesce(settled_at, max(created_at, ?)),
    owner = null, ready_at = ?, needs = ?
where id = ? and owner = ? and revision = ? and control = ? and inbox = coalesce(?, inbox)
