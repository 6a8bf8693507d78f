-- Settles what goes forward in a tree although its deadline has passed, the earliest deadline first: each takes the next
-- completion number, but for the root, which has the latest deadline and no number. It moves the control counter on, so
-- that no commit goes before the owner has read that; without an owner the tree is due at once, for any worker. The tree's
-- row is locked by the statement before it.
with moment as materialized (
    select context.sapwood_now() as now
),
late as materialized (
    select i.path, i.path = '\x00' as is_root, row_number() over (order by i.deadline, i.path)::integer as ordinal
    from context.invocation i, moment m
    where i.tree_id = $1 and i.state = 0 and i.deadline <= m.now
),
settled as (
    update context.invocation i
    set state = 4,
        parked = null,
        number = case when not l.is_root then t.number + l.ordinal end,
        settled_at = greatest(i.created_at, m.now)
    from late l, context.tree t, moment m
    where i.tree_id = $1 and i.path = l.path and t.id = $1
),
cleared as (
    delete from context.timer t
    using late l
    where t.tree_id = $1 and t.path = l.path
)
update context.tree t
set control = t.control + 1,
    number = t.number + s.numbered,
    state = case when s.has_root then 3 else t.state end,
    settled_at = case when s.has_root then greatest(t.created_at, m.now) else t.settled_at end,
    ready_at = case when t.owner is null then m.now end,
    needs = case when t.owner is null then null else t.needs end
from (select count(*) filter (where not is_root)::integer as numbered, bool_or(is_root) as has_root from late) s, moment m
where t.id = $1 and s.has_root is not null
returning t.control;
