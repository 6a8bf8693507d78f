-- Locks the row of a tree that is to be governed, or of which a promise is settled: every commit of the tree waits, or is
-- tried again.
select control, applied, inbox, aside is not null and owner is null and ready_at is null as aside
from context.tree
where id = $1
for no key update;
