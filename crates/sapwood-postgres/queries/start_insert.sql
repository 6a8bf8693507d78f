-- Starts the trees whose keys are free, and says which these are. It waits for a transaction that is just inserting one
-- of the keys, so keys are inserted in ascending order. The trees that have the other keys are read by a second
-- statement (`start_key_holder.sql`), which has a newer snapshot. Without an owner ($1 is null) there is no fence, and
-- the trees are ready at once.
with fenced as materialized (
    select 1 from context.fence
    where worker = $1 and fence = $2 and incarnation = $3 and state = 'alive'
    for key share
),
permit as materialized (
    select $1::bigint is null or (select count(*) from fenced) = 1 as alive
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
    where (select alive from permit)
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
select (select alive from permit) as alive, array(select tree_id from started) as started;
