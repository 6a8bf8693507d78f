-- A turn of a tree that stays with its owner. No column of the partial indexes is set, so none of them is touched.
-- Zero rows: refused.
update tree
set revision = revision + 1, state = ?, number = ?, settled_at = coalesce(settled_at, max(created_at, ?))
where id = ? and owner = ? and revision = ? and control = ? and inbox = coalesce(?, inbox)
