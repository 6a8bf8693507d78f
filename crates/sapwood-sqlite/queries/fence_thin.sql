-- The fences of workers that were thinned.
delete from fence
where worker not in (select id from worker)
