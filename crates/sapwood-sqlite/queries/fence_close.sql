-- Every fence of a dead worker; those of the living stay.
update fence
set state = 1
where state = 0 and worker in (select id from worker where state = 1)
