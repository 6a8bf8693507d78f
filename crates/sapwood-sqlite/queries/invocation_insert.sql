insert into invocation (
    tree, path, function, version, input, attempt, phase, closing, number, seen, outcome, parked, created_at, settled_at
)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
