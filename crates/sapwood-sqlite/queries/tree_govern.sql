-- Moves a tree's control counter on, so that no commit goes before its owner has read the request. Without an owner it is
-- due at once, for any worker: to close it may take none of the versions that it needs.
update tree
set control = control + 1,
    ready_at = case when owner is null then ?2 end,
    needs = case when owner is null then null else needs end
where id = ?1
