-- Declares workers dead, for ever. First their own rows, so that a renewal under way counts; the expiry is judged
-- again once a row is held. Then their fences, `for update`: this waits for every commit of theirs that is under way,
-- and every later one sees that it is dead.
with gone as materialized (
    select id from worker
    where id = any ($2::bigint[]) and id <> $1 and state = 'alive' and expires_at <= sapwood_now()
        and exists (select 1 from worker where id = $1 and state = 'alive')
    order by id
    for update
),
fences as materialized (
    select f.worker, f.slot
    from gone g
    join fence f on f.worker = g.id
    order by f.worker, f.slot
    for update of f
),
fenced as (
    update fence f
    set state = 'dead'
    from fences h
    where f.worker = h.worker and f.slot = h.slot
    returning 1
)
update worker w
set state = 'dead', ended_at = sapwood_now()
from gone g
where w.id = g.id and (select count(*) from fenced) >= 0
returning w.id;
