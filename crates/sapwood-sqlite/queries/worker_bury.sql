-- Declares workers dead, for ever. The end of the lease is judged again here, under the write lock, because a renewal
-- may have come in between.
update worker
set state = 'dead', ended_at = ?2
where id in (select value from json_each(?1)) and state = 'alive' and lease_ends_at <= ?2
returning id
