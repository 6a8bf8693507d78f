-- Moves the end of a worker's lease on. No row touched: it is no longer alive.
update worker
set lease_ends_at = ?2
where id = ?1 and state = 'alive'
