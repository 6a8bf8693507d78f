-- Zero rows: the key is held already.
insert into start_key (scope, key, digest, tree, created_at)
values (?, ?, ?, ?, ?)
on conflict (scope, key) do nothing
