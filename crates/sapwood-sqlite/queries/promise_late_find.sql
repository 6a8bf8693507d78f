-- The external promises of a tree whose deadline (a timer of kind 4) has passed, and that are not settled, the earliest first.
-- An entry of kind 12 made each.
select timer.path, timer.position, journal.name
from timer
join invocation on invocation.tree_id = timer.tree_id and invocation.path = timer.path
join journal
    on journal.tree_id = timer.tree_id and journal.path = timer.path and journal.position = timer.position
    and journal.kind = 12
left join promise
    on promise.tree_id = timer.tree_id and promise.path = timer.path and promise.position = timer.position
where timer.tree_id = ?1 and timer.kind = 4 and timer.due_at <= ?2 and invocation.state = 0 and promise.tree_id is null
order by timer.due_at, timer.path, timer.position
