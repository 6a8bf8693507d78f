select 1
from worker
where id = ?1 and state = 0
