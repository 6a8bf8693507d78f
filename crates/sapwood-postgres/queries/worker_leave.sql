-- Ends a worker's life by its own will, after its commits that are under way.
with gone as materialized (
    select id from worker where id = $1 and state = 'alive' for update
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
    set state = 'left'
    from fences h
    where f.worker = h.worker and f.slot = h.slot
    returning 1
)
update worker w
set state = 'left', ended_at = sapwood_now()
from gone g
where w.id = g.id and (select count(*) from fenced) >= 0;
