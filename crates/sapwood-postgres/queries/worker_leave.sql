-- Ends a worker at its own will, after its commits that are under way.
with leaving as materialized (
    select id from context.worker where id = $1 and state = 'alive' for update
),
locked as materialized (
    select f.worker, f.fence
    from leaving w
    join context.fence f on f.worker = w.id
    order by f.worker, f.fence
    for update of f
),
closed as (
    update context.fence f
    set state = 'left'
    from locked l
    where f.worker = l.worker and f.fence = l.fence
    returning 1
)
update context.worker w
set state = 'left', ended_at = context.sapwood_now()
from leaving l
where w.id = l.id and (select count(*) from closed) >= 0;
