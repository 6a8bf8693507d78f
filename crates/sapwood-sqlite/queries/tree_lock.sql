-- The one writer locks nothing else.
select state, control, applied, inbox
from tree
where id = ?1
