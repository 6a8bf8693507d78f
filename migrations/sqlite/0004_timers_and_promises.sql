-- What trees wait for.

-- What is due in a tree, set and cleared by the commits of its owner. There is no index by time: a worker finds a due
-- tree by the tree's own `ready_at`.
create table timer (
    tree_id blob not null,
    due_at integer not null,
    path blob not null,
    position integer not null,
    kind integer not null,
    primary key (tree_id, path, position)
) strict, without rowid;

-- Reserved: external promises, which are settled from outside.
create table promise (
    tree_id blob not null,
    created_at integer not null,
    settled_at integer,
    deadline integer,
    path blob not null,
    position integer not null,
    number integer,
    state integer not null,
    name text not null,
    outcome blob,
    primary key (tree_id, path, position)
) strict, without rowid;
