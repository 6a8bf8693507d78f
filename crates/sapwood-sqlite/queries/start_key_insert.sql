-- No row touched: the key is taken.
insert into start_key (scope, key, tree_id, digest, created_at)
values (?, ?, ?, ?, ?)
on conflict (scope, key) do nothing
