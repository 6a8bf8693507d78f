select id
from worker
where state = 0 and id <> ?1 and lease_until <= ?2
order by id
