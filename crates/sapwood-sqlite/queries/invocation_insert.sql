insert into invocation (
    tree_id, path, function, version, input, attempt, state, closing, number, seen, outcome, parked, undo, created_at,
    settled_at
)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
