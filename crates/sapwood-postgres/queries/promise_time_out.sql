-- Settles the external promises of a tree whose deadline has passed, with the outcome $2 and the state $3: the earliest first,
-- each with the next number of the tree's inbox counter. A timer of kind 4 is the deadline of a promise; an entry of kind 12
-- made it. Without an owner the tree is due at once, unless it is set aside. The tree's row is locked by the statement before.
with moment as materialized (
    select context.sapwood_now() as now
),
late as materialized (
    select t.path, t.position, j.name, row_number() over (order by t.due_at, t.path, t.position)::integer as ordinal
    from context.timer t
    join moment m on t.due_at <= m.now
    join context.invocation i on i.tree_id = t.tree_id and i.path = t.path
    join context.journal j
        on j.tree_id = t.tree_id and j.path = t.path and j.position = t.position and j.kind = 12
    left join context.promise p on p.tree_id = t.tree_id and p.path = t.path and p.position = t.position
    where t.tree_id = $1 and t.kind = 4 and i.state = 0 and p.tree_id is null
),
settled as (
    insert into context.promise (tree_id, path, position, name, state, outcome, inbox, settled_at)
    select t.id, l.path, l.position, l.name, $3, $2, t.inbox + l.ordinal, m.now
    from late l, context.tree t, moment m
    where t.id = $1
)
update context.tree t
set inbox = t.inbox + s.many,
    ready_at = case when t.owner is null and t.aside is null then m.now else t.ready_at end
from (select count(*)::integer as many from late) s, moment m
where t.id = $1 and s.many > 0
returning t.inbox;
