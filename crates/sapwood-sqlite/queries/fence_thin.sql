delete from fence
where worker not in (select id from worker)
