-- At open: the lock on the file proves that no process of theirs lives.
update worker
set state = 1
where state = 0
