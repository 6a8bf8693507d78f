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

-- External promises that were settled from outside, under the lock of the tree's row: append only. The journal of the tree's
-- owner has them once the owner has heard of them.
create table promise (
    tree_id uuid not null,
    settled_at timestamptz not null,
    -- Reserved: until when it could have been settled.
    deadline timestamptz,
    path bytea not null,
    position integer not null,
    -- The number that it gave the tree's inbox counter.
    inbox integer not null,
    state smallint not null,
    name text not null,
    outcome bytea not null,
    primary key (tree_id, path, position)
);
