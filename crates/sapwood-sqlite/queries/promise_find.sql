-- The external promises of a tree: of the invocations from path ?2 to path ?3, of the name ?4 or of all. An entry of kind 12
-- made each; nobody awaits it if its invocation is not pending (state 0), or has dropped the handle (kind 8). A timer of
-- kind 4 is its deadline.
select
    journal.path, journal.position, journal.name, journal.payload, journal.recorded_at,
    invocation.state = 0 and (journal.path, journal.position) not in (
        select path, position from journal where tree_id = ?1 and path between ?2 and ?3 and kind = 8
    ),
    min(coalesce(timer.due_at, invocation.deadline), coalesce(invocation.deadline, timer.due_at)),
    promise.state, promise.outcome, promise.settled_at, promise.inbox
from journal
join invocation on invocation.tree_id = journal.tree_id and invocation.path = journal.path
left join promise
    on promise.tree_id = journal.tree_id and promise.path = journal.path and promise.position = journal.position
left join timer
    on timer.tree_id = journal.tree_id and timer.path = journal.path and timer.position = journal.position
    and timer.kind = 4
where journal.tree_id = ?1
  and journal.path between ?2 and ?3
  and journal.kind = 12
  and (?4 is null or journal.name = ?4)
order by journal.path, journal.position
