insert into timer (tree_id, path, position, kind, due_at)
values (?, ?, ?, ?, ?)
on conflict (tree_id, path, position) do update set kind = excluded.kind, due_at = excluded.due_at
