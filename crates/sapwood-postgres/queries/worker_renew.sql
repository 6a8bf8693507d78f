-- Moves the end of a worker's lease on, and names the other workers whose lease is over.
with renewed as (
    update worker
    set lease_ends_at = sapwood_now() + $2 * interval '1 microsecond'
    where id = $1 and state = 'alive'
    returning 1
)
select
    (select count(*) from renewed) = 1 as alive,
    array(
        select id from worker where state = 'alive' and id <> $1 and lease_ends_at <= sapwood_now() order by id
    ) as expired;
