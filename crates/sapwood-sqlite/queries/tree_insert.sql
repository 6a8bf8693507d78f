-- No row touched: the tree is not new.
insert into tree (
    id, function, version, state, closing, owner, revision, number, ready_at, needs, correlation, causation, traceparent,
    created_at, deadline, settled_at
)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
on conflict (id) do nothing
