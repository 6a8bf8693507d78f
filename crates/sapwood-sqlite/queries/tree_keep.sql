-- A turn of a tree that stays with its owner. It sets no column of the partial indexes, so none of them is touched.
-- No row touched: refused.
update tree
set revision = revision + 1, applied = control, state = ?, closing = ?, number = ?, settled_at = coalesce(settled_at, max(created_at, ?))
where id = ? and owner = ? and revision = ? and control = ? and inbox = coalesce(?, inbox)
