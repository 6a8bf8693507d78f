-- The external promises of a tree: of the invocations from path $2 to path $3, of the name $4 or of all. An entry of kind 12
-- made each; nobody awaits it if its invocation is not pending (state 0), or has dropped the handle (kind 8). A timer of
-- kind 4 is its deadline.
with closed as materialized (
    select d.path, d.position
    from context.journal d
    where d.tree_id = $1 and d.path between $2 and $3 and d.kind = 8
)
select
    j.path, j.position, j.name, j.payload, j.recorded_at, i.state = 0 and c.position is null as awaited, p.state,
    p.outcome, p.settled_at, p.inbox, least(t.due_at, i.deadline) as deadline, context.sapwood_now() as now
from context.journal j
join context.invocation i on i.tree_id = j.tree_id and i.path = j.path
left join closed c on c.path = j.path and c.position = j.position
left join context.promise p on p.tree_id = j.tree_id and p.path = j.path and p.position = j.position
left join context.timer t
    on t.tree_id = j.tree_id and t.path = j.path and t.position = j.position and t.kind = 4
where j.tree_id = $1 and j.path between $2 and $3 and j.kind = 12 and ($4::text is null or j.name = $4)
order by j.path, j.position;
