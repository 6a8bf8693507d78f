-- Registers a worker and its fence slots.
with joined as (
    insert into worker (name, joined_at, expires_at)
    select $1, m.now, m.now + $3 * interval '1 microsecond'
    from (select sapwood_now() as now offset 0) m
    returning id
),
fenced as (
    insert into fence (worker, slot)
    select j.id, s.slot from joined j, generate_series(0, $2::integer - 1) as s (slot)
)
select id from joined;
