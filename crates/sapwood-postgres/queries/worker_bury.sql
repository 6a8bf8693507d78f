-- Declares workers dead, for ever. First their own rows are locked, so that a renewal under way counts: the end of the
-- lease is judged again once the row is locked. Then their fences are locked `for update`, which waits for every commit
-- of theirs that is under way; every later one sees that its worker is dead.
with expired as materialized (
    select id from worker
    where id = any ($2::bigint[]) and id <> $1 and state = 'alive' and lease_ends_at <= sapwood_now()
        and exists (select 1 from worker where id = $1 and state = 'alive')
    order by id
    for update
),
locked as materialized (
    select f.worker, f.fence
    from expired e
    join fence f on f.worker = e.id
    order by f.worker, f.fence
    for update of f
),
closed as (
    update fence f
    set state = 'dead'
    from locked l
    where f.worker = l.worker and f.fence = l.fence
    returning 1
)
update worker w
set state = 'dead', ended_at = sapwood_now()
from expired e
where w.id = e.id and (select count(*) from closed) >= 0
returning w.id;
