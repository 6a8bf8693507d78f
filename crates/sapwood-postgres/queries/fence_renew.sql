-- Gives a fence slot a new incarnation. `for update` waits for the commit of an earlier connection that may still be
-- under way, and what comes of it later is refused by the incarnation it names.
with held as materialized (
    select worker, slot from fence where worker = $1 and slot = $2 and state = 'alive' for update
)
update fence f
set incarnation = f.incarnation + 1
from held h
where f.worker = h.worker and f.slot = h.slot
returning f.incarnation;
