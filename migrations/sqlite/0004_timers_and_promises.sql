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

-- External promises that were settled from outside: append only. The journal of the tree's owner has them once the owner has
-- heard of them.
create table promise (
    tree_id blob not null,
    settled_at integer not null,
    -- Reserved: until when it could have been settled.
    deadline integer,
    path blob not null,
    position integer not null,
    -- The number that it gave the tree's inbox counter.
    inbox integer not null,
    state integer not null,
    name text not null,
    outcome blob not null,
    primary key (tree_id, path, position)
) strict, without rowid;
