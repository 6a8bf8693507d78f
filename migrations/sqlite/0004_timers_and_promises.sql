-- What is due in a tree. No index by time: a worker finds a due tree by its `ready_at`.
-- External promises will be journal entries with an inbox of the tree; they need no table before they exist.
create table timer (
    tree blob not null,
    path blob not null,
    position integer not null,
    kind integer not null,
    due_at integer not null,
    primary key (tree, path, position)
) strict, without rowid;
