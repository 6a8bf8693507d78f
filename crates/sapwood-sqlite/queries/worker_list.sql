-- The other workers, with how often each has renewed its lease.
select id, renewals, lease_us, process
from worker
where state = 'alive' and id <> ?1
order by id
