-- Whether a worker may still act.
select state = 'alive' from worker where id = $1;
