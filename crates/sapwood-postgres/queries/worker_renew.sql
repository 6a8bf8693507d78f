-- Moves the end of a worker's lease on, and names the others whose lease is over. The expiry is in no index.
with renewed as (
    update worker
    set expires_at = sapwood_now() + $2 * interval '1 microsecond'
    where id = $1 and state = 'alive'
    returning 1
)
select
    (select count(*) from renewed) = 1 as alive,
    array(
        select id from worker where state = 'alive' and id <> $1 and expires_at <= sapwood_now() order by id
    ) as expired;
