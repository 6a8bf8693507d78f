-- All of a tree below its own row: invocations, journal, timers. Each row is of one part; the columns of the others are
-- null.
select
    0 as part, i.path, i.function as name, i.version, i.input as payload, i.attempt, i.state, i.closing, i.number,
    i.seen, i.outcome, i.parked, i.undo, i.deadline, null::integer as seq, null::smallint as kind, null::integer as position,
    null::timestamptz as due_at, i.created_at as at, i.settled_at
from context.invocation i
where i.tree_id = $1
union all
select
    1, j.path, j.name, null, j.payload, j.attempt, null, null, j.number, null, null, null, null, null, j.seq, j.kind, j.position,
    null, j.recorded_at, null
from context.journal j
where j.tree_id = $1
union all
select
    2, t.path, null, null, null, null, null, null, null, null, null, null, null, null, null, t.kind, t.position, t.due_at, null,
    null
from context.timer t
where t.tree_id = $1
order by part, path, seq, position;
