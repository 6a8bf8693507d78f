-- Trees and their invocations. There are no foreign keys: the rows of one tree are only written together.

-- The unit of ownership. Its key is a UUID of version 7, so new rows come at the end, where the hot pages are.
create table tree (
    id blob not null primary key check (length(id) = 16),
    revision integer not null,
    owner integer,
    created_at integer not null,
    settled_at integer,
    ready_at integer,
    -- When its root settles at the latest, if it has a deadline.
    deadline integer,
    version integer not null,
    -- The last request that was made for it (`control_request`), and the last one that its owner has carried out.
    control integer not null default 0,
    applied integer not null default 0,
    inbox integer not null default 0,
    number integer not null,
    state integer not null,
    -- How far what its invocations undo has come: the worst of them.
    closing integer not null default 0,
    function text not null,
    needs text,
    correlation text not null,
    causation text,
    traceparent text,
    -- How often in a row it was taken over from a worker that died, and the revision that the last takeover gave it: if it is
    -- still at that, it has committed nothing since.
    takeovers integer not null default 0,
    taken_over_at integer,
    -- Why no worker could drive it, if one had claimed it: it is parked then.
    aside text
) strict, without rowid;

-- tree_ready_find, tree_ready_next: trees without an owner that any worker may go on with, in the order in which they
-- are due.
create index tree_ready on tree (ready_at) where owner is null and ready_at is not null and needs is null;

-- tree_needed_find, tree_ready_next: trees without an owner that only some workers may go on with. They are apart from
-- the others, so that they never stand in front of them.
create index tree_needed on tree (needs, ready_at) where owner is null and ready_at is not null and needs is not null;

-- tree_orphan_find, worker_thin: the trees of a worker that is not alive.
create index tree_owned on tree (owner, id) where owner is not null;

-- tree_list_by_function: the trees of one function, newest first.
create index tree_by_function on tree (function, id);

-- The nodes of a tree. `path` sorts by depth first, so the direct children of one invocation are one range.
create table invocation (
    tree_id blob not null,
    path blob not null,
    created_at integer not null,
    settled_at integer,
    -- When it settles at the latest, if that is earlier than for its caller, or if it undoes something.
    deadline integer,
    version integer not null,
    attempt integer not null,
    number integer,
    seen integer,
    state integer not null,
    closing integer not null,
    function text not null,
    input blob not null,
    outcome blob,
    parked blob,
    -- The function that undoes it, as `name@version`, if its caller gave one.
    undo text,
    primary key (tree_id, path)
) strict, without rowid;

-- What was asked of trees from outside, append only. It stays: it says who asked, and why.
create table control_request (
    tree_id blob not null,
    requested_at integer not null,
    -- The number that it gave the tree's control counter.
    control integer not null,
    verb integer not null,
    path blob not null,
    actor text not null,
    reason text not null,
    primary key (tree_id, control)
) strict, without rowid;
