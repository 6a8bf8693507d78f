-- The other workers whose lease is over.
select id
from worker
where state = 'alive' and id <> ?1 and lease_ends_at <= ?2
order by id
