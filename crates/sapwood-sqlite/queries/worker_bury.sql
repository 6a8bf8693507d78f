-- Expiry is judged here again, under the write lock: a renewal may have come between.
update worker
set state = 1
where id in (select value from json_each(?1)) and state = 0 and lease_until <= ?2
returning id
