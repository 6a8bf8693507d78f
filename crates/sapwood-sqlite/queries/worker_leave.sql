update worker
set state = 1
where id = ?1
