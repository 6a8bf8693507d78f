-- All that one activation reads, in one round trip: the invocation, its children, its journal, its timers. Each row is
-- of one part; the columns of the others are null. $3 and $4 are the first and the last path that a child can have.
select
    0 as part,
    i.path, i.function as name, i.version, i.input as payload, i.attempt, i.state, i.closing, i.number, i.seen,
    i.outcome, i.parked, i.undo, i.deadline, null::integer as seq, null::smallint as kind, null::integer as position,
    null::timestamptz as due_at
from context.invocation i
where i.tree_id = $1 and i.path = $2
union all
select
    1, i.path, i.function, i.version, i.input, i.attempt, i.state, i.closing, i.number, i.seen, i.outcome, i.parked,
    i.undo, i.deadline, null, null, null, null
from context.invocation i
where i.tree_id = $1 and i.path between $3 and $4
union all
select
    2, j.path, j.name, null, j.payload, j.attempt, null, null, j.number, null, null, null, null, null, j.seq, j.kind, j.position,
    null
from context.journal j
where j.tree_id = $1 and j.path = $2
union all
select
    3, t.path, null, null, null, null, null, null, null, null, null, null, null, null, null, t.kind, t.position, t.due_at
from context.timer t
where t.tree_id = $1 and t.path = $2
order by part, path, seq, position;
