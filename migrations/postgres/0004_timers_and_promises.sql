-- What trees wait for.

-- Rows are made and deleted by the owner's commits; what is due first stands in the tree's own row (`ready_at`).
create table timer (
    tree_id uuid not null,
    due_at timestamptz not null,
    path bytea not null,
    position integer not null,
    kind smallint not null,
    primary key (tree_id, path, position)
);

-- Reserved: external promises, settled from outside under the tree's row lock.
create table promise (
    tree_id uuid not null,
    path bytea not null,
    position integer not null,
    number integer,
    phase smallint not null,
    name text not null,
    outcome bytea,
    deadline timestamptz,
    created_at timestamptz not null,
    settled_at timestamptz,
    primary key (tree_id, path, position)
);
