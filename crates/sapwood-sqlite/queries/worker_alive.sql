-- No row: the worker may no longer act.
select 1
from worker
where id = ?1 and state = 'alive'
