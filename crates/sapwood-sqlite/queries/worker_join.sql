insert into worker (name, joined_at, lease_ends_at)
values (?1, ?2, ?3)
returning id
