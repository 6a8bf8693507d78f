-- Trees and their invocations. There are no foreign keys: the rows of one tree are only written together, under the
-- lock of the tree's row.

-- The unit of ownership. The columns stand in the order of their alignment. A commit between a tree's first and its
-- last changes no indexed column, so it is a HOT update; the fill factor leaves room for it on the page.
create table tree (
    id uuid primary key,
    revision bigint not null,
    owner bigint,
    created_at timestamptz not null,
    settled_at timestamptz,
    ready_at timestamptz,
    -- When its root settles at the latest, if it has a deadline.
    deadline timestamptz,
    version integer not null,
    -- The last request that was made for it (`control_request`), and the last one that its owner has carried out.
    control integer not null default 0,
    applied integer not null default 0,
    inbox integer not null default 0,
    number integer not null,
    state smallint not null,
    -- How far what its invocations undo has come: the worst of them.
    closing smallint not null default 0,
    function text collate "C" not null,
    needs text collate "C",
    correlation text not null,
    causation text,
    traceparent text,
    -- How often in a row it was taken over from a worker that died, and the revision that the last takeover gave it: if it is
    -- still at that, it has committed nothing since.
    takeovers smallint not null default 0,
    taken_over_at bigint,
    -- Why no worker could drive it, if one had claimed it: it is parked then.
    aside text
) with (fillfactor = 60);

-- tree_claim: trees without an owner that any worker may go on with, in the order in which they are due.
create index tree_ready on tree (ready_at) where owner is null and ready_at is not null and needs is null;

-- tree_claim: trees without an owner that only some workers may go on with. They are apart from the others, so that
-- they never stand in front of them.
create index tree_needed on tree (needs, ready_at) where owner is null and ready_at is not null and needs is not null;

-- tree_claim: the trees of a worker that is not alive.
create index tree_owned on tree (owner, id) where owner is not null;

-- tree_list_by_function: the trees of one function, newest first.
create index tree_by_function on tree (function, id);

-- The nodes of a tree. `path` sorts by depth first, so the direct children of one invocation are one range.
create table invocation (
    tree_id uuid not null,
    path bytea not null,
    created_at timestamptz not null,
    settled_at timestamptz,
    -- When it settles at the latest, if that is earlier than for its caller, or if it undoes something.
    deadline timestamptz,
    version integer not null,
    attempt integer not null,
    number integer,
    seen integer,
    state smallint not null,
    closing smallint not null,
    function text not null,
    input bytea not null,
    outcome bytea,
    parked bytea,
    -- The function that undoes it, as `name@version`, if its caller gave one.
    undo text,
    primary key (tree_id, path)
) with (fillfactor = 50);

-- What was asked of trees from outside, append only. It stays: it says who asked, and why.
create table control_request (
    tree_id uuid not null,
    requested_at timestamptz not null,
    -- The number that it gave the tree's control counter.
    control integer not null,
    verb smallint not null,
    path bytea not null,
    actor text not null,
    reason text not null,
    primary key (tree_id, control)
);
