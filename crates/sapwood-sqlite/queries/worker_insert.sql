insert into worker (name, joined_at, lease_until)
values (?1, ?2, ?3)
returning id
