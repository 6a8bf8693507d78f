-- What a worker needs of a tree that it claimed, besides the tree's own row: its open invocations (a promise whose state
-- is 5 or more is closed), those that undo something again or failed to (their closing is 1 or 3), its timers and the count of
-- all its invocations. Each row is of one part; the columns of the others are null.
with open as materialized (
    select i.* from context.invocation i where i.tree_id = $1 and (i.state < 5 or i.closing in (1, 3))
)
select
    0 as part, o.path, o.function, o.version, o.attempt, o.state, o.closing, o.number, o.seen, o.outcome, o.parked,
    greatest(
        (select max(j.number) from context.journal j where j.tree_id = $1 and j.path = o.path),
        -- The direct children are one range of paths: a byte of depth, then four bytes per position.
        (
            select max(c.number) from context.invocation c
            where c.tree_id = $1
                and c.path between set_byte(o.path, 0, get_byte(o.path, 0) + 1) || '\x00000000'
                    and set_byte(o.path, 0, get_byte(o.path, 0) + 1) || '\xffffffff'
        ),
        0
    ) as latest,
    coalesce((select max(j.seq) + 1 from context.journal j where j.tree_id = $1 and j.path = o.path), 0) as next_seq,
    o.deadline,
    null::integer as position, null::smallint as kind, null::timestamptz as due_at, null::bigint as nodes
from open o
union all
select
    1, t.path, null, null, null, null, null, null, null, null, null, null, null, null, t.position, t.kind, t.due_at, null
from context.timer t
where t.tree_id = $1
union all
select
    2, '\x', null, null, null, null, null, null, null, null, null, null, null, null, null, null, null,
    (select count(*) from context.invocation i where i.tree_id = $1)
order by part, path, position;
