-- Gives a fence a new incarnation. `for update` waits for the commit of an earlier connection that may still be under
-- way; one that arrives later is refused by the incarnation it names. No row: the worker is not alive.
with locked as materialized (
    select worker, fence from context.fence where worker = $1 and fence = $2 and state = 'alive' for update
)
update context.fence f
set incarnation = f.incarnation + 1
from locked l
where f.worker = l.worker and f.fence = l.fence
returning f.incarnation;
