-- The one writer locks nothing else.
select control, applied, inbox, aside is not null and owner is null and ready_at is null
from tree
where id = ?1
