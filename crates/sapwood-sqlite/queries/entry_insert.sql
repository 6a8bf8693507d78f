insert into entry (tree, path, seq, kind, position, number, attempt, name, payload, recorded_at)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
