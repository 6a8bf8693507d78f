insert into invocation (
    tree_id, path, function, version, input, attempt, state, closing, number, seen, outcome, parked, undo, deadline,
    created_at, settled_at
)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
