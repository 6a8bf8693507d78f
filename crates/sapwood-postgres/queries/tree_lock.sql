-- Locks the row of a tree that is to be governed, or of which a promise is settled: every commit of the tree waits, or is
-- tried again.
select state, control, applied, inbox
from context.tree
where id = $1
for no key update;
