-- Moves a tree's control counter on, so that no commit goes before its owner has read the request. Without an owner it is
-- due at once, for any worker: to close it may take none of the versions that it needs. A closed tree (its state is 4 or more)
-- is governed only to undo something again, and has the closing 1 until it is undone.
update context.tree
set control = control + 1,
    ready_at = case when owner is null then context.sapwood_now() end,
    needs = case when owner is null then null else needs end,
    closing = case when state >= 4 then 1 else closing end
where id = $1;
