-- At an opening: the lock on the file proves that no process of any of them lives.
update worker
set state = 'dead', ended_at = ?1
where state = 'alive'
