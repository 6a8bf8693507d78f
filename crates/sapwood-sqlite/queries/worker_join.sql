insert into worker (name, joined_at, lease_us)
values (?1, ?2, ?3)
returning id
