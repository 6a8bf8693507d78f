-- Whether a worker may still act; no row for one that never was.
select state = 'alive' from context.worker where id = $1;
