insert into timer (tree, path, position, kind, due_at)
values (?, ?, ?, ?, ?)
on conflict (tree, path, position) do update set kind = excluded.kind, due_at = excluded.due_at
