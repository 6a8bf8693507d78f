-- The one writer locks nothing else.
select state, control, applied
from tree
where id = ?1
