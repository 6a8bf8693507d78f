-- Accepts a poll batch of events: offsets, keys and new trees, all or nothing. An offset whose epoch is not that of the
-- last assignment refuses the batch, and so does one that does not follow the stored one; one that is stored already is of
-- a batch whose answer was lost. Locks: the fence; the offsets, ascending; the keys, ascending. It starts trees as
-- `start_insert.sql` does.
with fenced as materialized (
    select 1 from context.fence
    where worker = $1 and fence = $2 and incarnation = $3 and state = 'alive'
    for key share
),
permit as materialized (
    select $1::bigint is null or (select count(*) from fenced) = 1 as alive
),
offsets as materialized (
    select o.consumer_group, o.topic, o.partition, o.topic_id, u.next_offset
    from unnest($16::text[], $17::integer[], $18::text[], $19::bigint[], $20::bigint[], $21::bigint[])
        as u (topic, partition, topic_id, epoch, after, next_offset)
    join context.group_offset o
        on o.consumer_group = $15 and o.topic = u.topic and o.partition = u.partition and o.topic_id = u.topic_id
    where o.epoch = u.epoch and (o.next_offset is not distinct from u.after or o.next_offset = u.next_offset)
        and (select alive from permit)
    order by o.topic, o.partition, o.topic_id
    for no key update of o
),
accepted as materialized (
    select count(*) = cardinality($16::text[]) as every from offsets
),
advanced as (
    update context.group_offset o
    set next_offset = n.next_offset
    from offsets n
    where o.consumer_group = n.consumer_group and o.topic = n.topic and o.partition = n.partition
        and o.topic_id = n.topic_id
        and (select every from accepted)
),
moment as materialized (
    select context.sapwood_now() as now
),
keyed as (
    insert into context.start_key (scope, key, tree_id, digest, created_at)
    select k.scope, k.key, k.tree_id, k.digest, m.now
    from (
        select * from unnest($4::text[], $5::text[], $6::uuid[], $7::bytea[])
            with ordinality as u (scope, key, tree_id, digest, ordinal)
        order by scope collate "C", key collate "C", ordinal
    ) k,
    moment m
    where (select alive from permit) and (select every from accepted)
    on conflict (scope, key) do nothing
    returning tree_id
),
started as materialized (
    select
        s.tree_id, s.function, s.version, s.input, s.correlation, s.causation, s.traceparent, s.deadline
    from unnest(
        $6::uuid[], $8::text[], $9::integer[], $10::bytea[], $11::text[], $12::text[], $13::text[], $14::timestamptz[]
    ) as s (tree_id, function, version, input, correlation, causation, traceparent, deadline)
    where (s.tree_id in (select tree_id from keyed)) is true
),
created as (
    insert into context.tree (
        id, revision, owner, created_at, ready_at, deadline, version, number, state, function,
        correlation, causation, traceparent
    )
    select
        s.tree_id, 0, $1, m.now, case when $1::bigint is null then m.now end, s.deadline, s.version, 0, 0, s.function,
        s.correlation, s.causation, s.traceparent
    from started s, moment m
),
called as (
    insert into context.invocation (
        tree_id, path, function, version, input, attempt, state, closing, created_at, deadline
    )
    select s.tree_id, '\x00', s.function, s.version, s.input, 1, 0, 0, m.now, s.deadline
    from started s, moment m
)
select
    (select alive from permit) as alive,
    (select every from accepted) as accepted,
    array(select tree_id from started) as started;
