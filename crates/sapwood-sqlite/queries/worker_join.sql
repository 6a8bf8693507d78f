insert into worker (name, joined_at, lease_us, process)
values (?1, ?2, ?3, ?4)
returning id
