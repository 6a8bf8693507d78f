-- Claims trees for a worker: first those of workers that are not alive, then those without an owner, in the order in
-- which they became due. A tree whose row is locked is left for the next claim. A row that changed since the snapshot
-- is judged as it is now. A closed tree (its state is 4 or more) is never claimed, unless something of it is undone again (its
-- closing is 1). An outcome that it has (from 3 on) stays.
with me as materialized (
    -- This waits for a burial of this worker, and a burial waits for it: a dead worker claims nothing.
    select id from context.worker where id = $1 and state = 'alive' for key share
),
moment as materialized (
    -- Read once, so that it bounds the index scans: a volatile function would only filter what they read.
    select context.sapwood_now() as now
),
emptied as (
    -- A burial is over before this snapshot is taken, so all that its worker owned is in it.
    update context.worker w
    set emptied = true
    where w.state <> 'alive' and not w.emptied
        and (select t.id from context.tree t where t.owner = w.id and (t.state < 4 or t.closing = 1) limit 1) is null
),
orphaned as materialized (
    -- An array of owners, so that the trees of live workers are never looked at.
    select t.id
    from context.tree t
    where t.owner = any (array(select w.id from context.worker w where w.state <> 'alive' and not w.emptied))
        and (t.state < 4 or t.closing = 1)
        and (t.needs is null or t.needs = any ($3::text[]))
        and t.taken_over_at is distinct from t.revision
        and (select count(*) from me) = 1
    limit $2
    for no key update skip locked
),
-- Taken over before, and not committed since: one of these may be what its workers died of.
suspected as materialized (
    select t.id
    from context.tree t
    where t.owner = any (array(select w.id from context.worker w where w.state <> 'alive' and not w.emptied))
        and (t.state < 4 or t.closing = 1)
        and (t.needs is null or t.needs = any ($3::text[]))
        and t.taken_over_at = t.revision and t.takeovers < 2
        and (select count(*) from me) = 1
    limit $4
    for no key update skip locked
),
suspected_again as materialized (
    select t.id
    from context.tree t
    where t.owner = any (array(select w.id from context.worker w where w.state <> 'alive' and not w.emptied))
        and (t.state < 4 or t.closing = 1)
        and (t.needs is null or t.needs = any ($3::text[]))
        and t.taken_over_at = t.revision and t.takeovers >= 2
        and (select count(*) from me) = 1
    order by t.takeovers, t.id
    limit case when (select count(*) from suspected) = 0 then $5::bigint else 0 end
    for no key update skip locked
),
due as materialized (
    select t.id
    from context.tree t
    where t.owner is null and t.ready_at is not null and t.needs is null and t.ready_at <= (select now from moment)
        and (t.state < 4 or t.closing = 1)
        and (select count(*) from me) = 1
    order by t.ready_at
    limit $2 - (select count(*) from orphaned)
    for no key update skip locked
),
needed as materialized (
    select t.id
    from context.tree t
    where t.needs = any ($3::text[]) and t.owner is null and t.ready_at <= (select now from moment)
        and (t.state < 4 or t.closing = 1)
        and (select count(*) from me) = 1
    limit $2 - (select count(*) from orphaned) - (select count(*) from due)
    for no key update skip locked
),
chosen as materialized (
    select id, true as taken_over from orphaned
    union all
    select id, true from suspected
    union all
    select id, true from suspected_again
    union all
    select id, false from due
    union all
    select id, false from needed
),
claimed as (
    update context.tree t
    set owner = $1, revision = least(t.revision, 9223372036854775806) + 1, state = case when t.state < 3 then 0 else t.state end, ready_at = null, needs = null, aside = null,
        takeovers = case
            when not c.taken_over then t.takeovers
            when t.taken_over_at = t.revision then least(t.takeovers, 100) + 1
            else 1
        end,
        taken_over_at = case when c.taken_over then least(t.revision, 9223372036854775806) + 1 else t.taken_over_at end
    from chosen c
    where t.id = c.id
    returning
        c.taken_over, t.takeovers, t.id, t.function, t.version, t.state, t.closing, t.owner, t.revision, t.control, t.applied, t.inbox,
        t.number, t.ready_at, t.needs, t.aside, t.correlation, t.causation, t.traceparent, t.created_at, t.deadline, t.settled_at
),
next as materialized (
    -- The first of what is left that this worker may go on with. The snapshot still shows what was claimed just now.
    select least(
        (
            select t.ready_at from context.tree t
            where t.owner is null and t.ready_at is not null and t.needs is null and (t.state < 4 or t.closing = 1)
                and not (t.id in (select id from chosen))
            order by t.ready_at
            limit 1
        ),
        (
            select min(first.ready_at)
            from unnest($3::text[]) as v (version)
            cross join lateral (
                select t.ready_at from context.tree t
                where t.owner is null and t.ready_at is not null and t.needs is not null and t.needs = v.version
                    and (t.state < 4 or t.closing = 1)
                    and not (t.id in (select id from chosen))
                order by t.ready_at
                limit 1
            ) first
        )
    ) as ready_at
)
-- Always at least one row, with nulls for the tree if none was claimed.
select (select count(*) from me) = 1 as alive, n.ready_at as next_ready_at, c.*
from next n
left join claimed c on true;
