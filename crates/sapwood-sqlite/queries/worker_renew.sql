-- Zero rows: declared dead.
update worker
set lease_until = ?2
where id = ?1 and state = 0
