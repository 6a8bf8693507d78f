-- Ends a worker at its own will.
update worker
set state = 'left', ended_at = ?2
where id = ?1 and state = 'alive'
