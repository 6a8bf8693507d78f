-- Registers a worker and its fences.
with joined as (
    insert into worker (name, joined_at, lease_ends_at)
    select $1, m.now, m.now + $3 * interval '1 microsecond'
    from (select sapwood_now() as now offset 0) m
    returning id
),
fences as (
    insert into fence (worker, fence)
    select j.id, n.fence from joined j, generate_series(0, $2::integer - 1) as n (fence)
)
select id from joined;
