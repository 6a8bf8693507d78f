-- Moves a tree's control counter on, so that no commit goes before its owner has read the request. Without an owner it is
-- due at once, for any worker: to close it may take none of the versions that it needs. A closed tree (its state is 4 or more)
-- is governed only to undo something again, and has the closing 1 until it is undone.
update tree
set control = control + 1,
    ready_at = case when owner is null then ?2 end,
    needs = case when owner is null then null else needs end,
    closing = iif(state >= 4, 1, closing)
where id = ?1
