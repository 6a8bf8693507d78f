-- Registers a worker and its fences.
with joined as (
    insert into context.worker (name, process, joined_at, lease_us)
    values ($1, $4, context.sapwood_now(), $3)
    returning id, joined_at
),
fences as (
    insert into context.fence (worker, fence)
    select j.id, n.fence from joined j, generate_series(0, $2::integer - 1) as n (fence)
)
select id, joined_at as now from joined;
