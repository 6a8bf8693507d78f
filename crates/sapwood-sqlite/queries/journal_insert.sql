insert into journal (tree_id, path, seq, kind, position, number, attempt, name, payload, recorded_at)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
