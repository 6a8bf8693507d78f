-- Counts a renewal of a worker's lease. No row touched: it is no longer alive.
update worker
set renewals = renewals + 1, lease_us = ?2
where id = ?1 and state = 'alive'
