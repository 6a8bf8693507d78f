-- What trees wait for.

-- What is due in a tree, set and cleared by the commits of its owner. There is no index by time: a worker finds a due
-- tree by the tree's own `ready_at`.
create table timer (
    tree_id uuid not null,
    due_at timestamptz not null,
    path bytea not null,
    position integer not null,
    kind smallint not null,
    primary key (tree_id, path, position)
);

-- Reserved: external promises, which are settled from outside, under the lock of the tree's row.
create table promise (
    tree_id uuid not null,
    created_at timestamptz not null,
    settled_at timestamptz,
    deadline timestamptz,
    path bytea not null,
    position integer not null,
    number integer,
    state smallint not null,
    name text not null,
    outcome bytea,
    primary key (tree_id, path, position)
);
