-- The unit of ownership. Keys are UUIDs of version 7: new rows come at the end, which is where the hot pages are.
create table tree (
    id blob not null primary key,
    function text not null,
    version integer not null,
    state integer not null,
    owner integer,
    revision integer not null,
    control integer not null default 0,
    inbox integer not null default 0,
    number integer not null,
    ready_at integer,
    needs text,
    correlation text not null,
    causation text,
    traceparent text,
    created_at integer not null,
    settled_at integer
) strict, without rowid;

-- tree_ready_find, tree_ready_next: what is due among the trees that nobody owns.
create index tree_ready on tree (ready_at) where owner is null and ready_at is not null and needs is null;

-- tree_needed_find, tree_ready_next: those that only some workers may go on with; apart, so that they never stand in
-- front of the others.
create index tree_needed on tree (needs, ready_at) where owner is null and ready_at is not null and needs is not null;

-- tree_orphan_find: what dead workers still own.
create index tree_owned on tree (owner) where owner is not null;

-- tree_list_by_function: the trees of one function, newest first.
create index tree_by_function on tree (function, id);

-- The nodes of a tree. `path` sorts by depth first, so the direct children of one invocation are one range.
create table invocation (
    tree blob not null,
    path blob not null,
    function text not null,
    version integer not null,
    input blob not null,
    attempt integer not null,
    phase integer not null,
    closing integer not null,
    number integer,
    seen integer,
    outcome blob,
    parked blob,
    created_at integer not null,
    settled_at integer,
    primary key (tree, path)
) strict, without rowid;
