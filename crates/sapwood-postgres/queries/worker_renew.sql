-- Counts a renewal of a worker's lease, and tells the time, and of each of the others how often it has renewed and
-- which process it is of.
with renewed as (
    update context.worker
    set renewals = renewals + 1, lease_us = $2
    where id = $1 and state = 'alive'
    returning 1
)
select
    (select count(*) from renewed) = 1 as alive,
    context.sapwood_now() as now,
    array(select id from context.worker where state = 'alive' and id <> $1 order by id) as others,
    array(select renewals from context.worker where state = 'alive' and id <> $1 order by id) as renewals,
    array(select lease_us from context.worker where state = 'alive' and id <> $1 order by id) as leases_us,
    array(select process from context.worker where state = 'alive' and id <> $1 order by id) as processes;
