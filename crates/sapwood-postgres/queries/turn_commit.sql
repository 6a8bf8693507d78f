-- Commits a batch of turns, each whole or not at all, and says which (W1, W2). One autocommit statement.
--
-- Locks are taken in one order, which is forced by the reads of one part from another: the fence; the trees, ascending
-- by id; the lanes, ascending. Nothing else here can wait, because invocations, entries and timers are only written
-- under the lock of their tree.
--
-- Every table is reached by its key from one `unnest`, row by row: with the settings of a connection (see
-- `connection_configure.sql`) the planner has no other plan left, whatever the statistics say. All parts see the
-- snapshot of the statement's start. Only rows that are locked are read again, and only those decide. States of trees
-- are settled from 3 on, states of promises from 4 on.
with
fenced as materialized (
    -- `for key share` waits for a burial of this worker and for a recovery on this fence, and for nothing else. Then
    -- state and incarnation are judged again.
    select 1 from context.fence
    where worker = $1 and fence = $2 and incarnation = $3 and state = 'alive'
    for key share
),
moment as materialized (
    select context.sapwood_now() as now
),
locked as materialized (
    -- A tree whose row is locked waits for another batch instead of holding this one up. A row that changed since the
    -- snapshot is judged as it is now.
    select
        t.id, a.state, a.number, a.keep, a.ready_at, a.needs, a.closing,
        t.owner is not distinct from $1
            and t.revision = a.revision
            and t.control = a.control
            and (a.inbox is null or t.inbox = a.inbox)
            and (a.not_before is null or a.not_before <= (select now from moment))
            and (a.only_before is null or (select now from moment) < a.only_before) as known
    from unnest(
        $4::uuid[], $5::bigint[], $6::integer[], $7::integer[], $8::timestamptz[], $9::timestamptz[],
        $10::smallint[], $11::integer[], $12::boolean[], $13::timestamptz[], $14::text[], $15::smallint[]
    ) as a (id, revision, control, inbox, not_before, only_before, state, number, keep, ready_at, needs, closing)
    join context.tree t on t.id = a.id
    where (select count(*) from fenced) = 1
    order by t.id
    for no key update of t skip locked
),
created as (
    insert into context.tree (
        id, revision, owner, created_at, settled_at, ready_at, deadline, version, number, state, closing, function, needs,
        correlation, causation, traceparent
    )
    select
        n.id, 1, case when n.keep then $1 end, m.now, case when n.state >= 3 then m.now end, n.ready_at, n.deadline, n.version,
        n.number, n.state, n.closing, n.function, n.needs, n.correlation, n.causation, n.traceparent
    from unnest(
        $16::uuid[], $17::text[], $18::integer[], $19::text[], $20::text[], $21::text[], $22::timestamptz[], $23::timestamptz[],
        $24::smallint[], $25::integer[], $26::boolean[], $27::timestamptz[], $28::text[], $29::smallint[]
    ) as n (
        id, function, version, correlation, causation, traceparent, only_before, deadline, state, number, keep, ready_at,
        needs, closing
    ),
    moment m
    where (select count(*) from fenced) = 1 and (n.only_before is null or m.now < n.only_before)
    on conflict (id) do nothing
    returning id
),
taken as materialized (
    select id from locked where known
    union all
    select id from created
),
whole as materialized (
    -- If every turn was taken, as nearly always, no row has to be looked up among the taken.
    select count(*) = cardinality($4::uuid[]) + cardinality($16::uuid[]) as every from taken
),
moved as (
    update context.tree t
    set revision = t.revision + 1,
        state = k.state,
        number = k.number,
        applied = t.control,
        closing = k.closing,
        owner = case when k.keep then t.owner end,
        ready_at = k.ready_at,
        needs = k.needs,
        settled_at = case when k.state >= 3 then coalesce(t.settled_at, greatest(t.created_at, m.now)) end
    from locked k, moment m
    where k.known and t.id = k.id
    returning 1
),
called as (
    insert into context.invocation (
        tree_id, path, function, version, input, attempt, state, closing, number, seen, outcome, parked, undo,
        deadline, created_at, settled_at
    )
    select
        i.tree_id, i.path, i.function, i.version, i.input, i.attempt, i.state, i.closing, i.number, i.seen, i.outcome,
        i.parked, i.undo, i.deadline, m.now, case when i.state >= 4 then m.now end
    from unnest(
        $30::uuid[], $31::bytea[], $32::text[], $33::integer[], $34::bytea[],
        $35::integer[], $36::smallint[], $37::smallint[], $38::integer[], $39::integer[], $40::bytea[], $41::bytea[], $42::text[],
        $43::timestamptz[]
    ) as i (
        tree_id, path, function, version, input, attempt, state, closing, number, seen, outcome, parked, undo, deadline
    ),
    moment m
    where (select every from whole) or i.tree_id in (select id from taken)
    returning 1
),
changed as (
    update context.invocation i
    set attempt = c.attempt,
        state = c.state,
        closing = c.closing,
        number = c.number,
        seen = c.seen,
        outcome = c.outcome,
        parked = c.parked,
        settled_at = case when c.state >= 4 then coalesce(i.settled_at, greatest(i.created_at, m.now)) end
    from unnest(
        $44::uuid[], $45::bytea[],
        $46::integer[], $47::smallint[], $48::smallint[], $49::integer[], $50::integer[], $51::bytea[], $52::bytea[]
    ) as c (tree_id, path, attempt, state, closing, number, seen, outcome, parked),
    moment m
    where i.tree_id = c.tree_id and i.path = c.path
        and ((select every from whole) or c.tree_id in (select id from taken))
    returning i.tree_id, i.path
),
entered as (
    insert into context.journal (tree_id, path, seq, kind, position, number, attempt, name, payload, recorded_at)
    select e.tree_id, e.path, e.seq, e.kind, e.position, e.number, e.attempt, e.name, e.payload, m.now
    from unnest(
        $53::uuid[], $54::bytea[], $55::integer[], $56::smallint[], $57::integer[], $58::integer[], $59::integer[],
        $60::text[], $61::bytea[]
    ) as e (tree_id, path, seq, kind, position, number, attempt, name, payload),
    moment m
    where (select every from whole) or e.tree_id in (select id from taken)
    returning 1
),
timers_set as (
    -- A timer that is done and set anew in one turn comes as set only, because two parts of a statement have no order.
    insert into context.timer (tree_id, path, position, kind, due_at)
    select s.tree_id, s.path, s.position, s.kind, s.due_at
    from unnest($62::uuid[], $63::bytea[], $64::integer[], $65::smallint[], $66::timestamptz[])
        as s (tree_id, path, position, kind, due_at)
    where (select every from whole) or s.tree_id in (select id from taken)
    on conflict (tree_id, path, position) do update set kind = excluded.kind, due_at = excluded.due_at
),
timers_cleared as (
    delete from context.timer t
    using unnest($67::uuid[], $68::bytea[], $69::integer[]) as c (tree_id, path, position)
    where t.tree_id = c.tree_id and t.path = c.path and t.position = c.position
        and ((select every from whole) or c.tree_id in (select id from taken))
),
emitted as materialized (
    select e.*
    from unnest(
        $70::smallint[], $71::text[], $72::text[], $73::text[], $74::text[], $75::text[], $76::timestamptz[],
        $77::uuid[], $78::text[], $79::text[], $80::text[], $81::bytea[]
    ) with ordinality as e (
        lane, event_id, topic, key, cloud_type, source, time, tree_id, correlation, causation, traceparent, content,
        ordinal
    )
    where (select every from whole) or e.tree_id in (select id from taken)
),
lanes as materialized (
    -- Each lock is held until the commit is durable, so the order of `seq` in a lane is the order of commits (see
    -- `outbox.rs`). They come after all other work, so that they are held for a short time.
    select pg_advisory_xact_lock('context.lane'::regclass::oid::integer, l.lane)
    from (select distinct lane::integer from emitted order by 1) as l (lane)
    where (select count(*) from moved) + (select count(*) from called) + (select count(*) from changed)
        + (select count(*) from entered) >= 0
),
sent as (
    insert into context.outbox (
        lane, seq, event_id, topic, key, cloud_type, source, time, tree_id, correlation, causation, traceparent,
        content
    )
    select
        e.lane, nextval('context.outbox_seq'), e.event_id, e.topic, e.key, e.cloud_type, e.source, e.time, e.tree_id,
        e.correlation, e.causation, e.traceparent, e.content
    from (select * from emitted order by ordinal) e
    where (select count(*) from lanes) >= 0
)
select
    (select count(*) from fenced) = 1 as alive,
    w.every,
    case when w.every then '{}' else array(select id from taken) end as taken,
    case when w.every then '{}' else array(
        -- Trees that are there and yet were not locked: another transaction has their rows locked.
        select a.id
        from unnest($4::uuid[]) as a (id)
        where not (a.id in (select id from locked)) and (select 1 from context.tree t where t.id = a.id) = 1
    ) end as busy,
    -- An invocation that is not there cannot be changed: such a batch fails, and an error is all that undoes what the
    -- parts above have done. So this is no value but a text that is no number. It is made of a row, because a constant
    -- would be read when the statement is planned. As a rule it costs the comparison of two counts.
    case when (select count(*) from changed) < case
        when w.every then cardinality($44::uuid[])
        else (select count(*) from unnest($44::uuid[]) as c (tree_id) where c.tree_id in (select id from taken))
    end then (
        select 'a turn changes an invocation of tree ' || c.tree_id || ', which is not there'
        from unnest($44::uuid[], $45::bytea[]) as c (tree_id, path)
        where (w.every or c.tree_id in (select id from taken))
            and not ((c.tree_id, c.path) in (select d.tree_id, d.path from changed d))
        limit 1
    )::integer end as changed
from whole w;
