-- Moves a tree's inbox counter on, so that no turn releases it before its owner has heard of what settled. Without an owner it
-- is due at once, unless it is set aside: no worker could drive it.
update tree
set inbox = inbox + 1,
    ready_at = case when owner is null and aside is null then ?2 else ready_at end
where id = ?1
