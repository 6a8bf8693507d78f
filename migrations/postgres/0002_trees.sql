-- Trees and their invocations. No foreign keys: rows of one tree are only written together, under the tree's lock.

create table tree (
    id uuid primary key,
    revision bigint not null,
    owner bigint,
    created_at timestamptz not null,
    settled_at timestamptz,
    ready_at timestamptz,
    -- Reserved: bounds the whole tree.
    deadline timestamptz,
    version integer not null,
    control integer not null default 0,
    inbox integer not null default 0,
    number integer not null,
    state smallint not null,
    function text collate "C" not null,
    needs text collate "C",
    correlation text not null,
    causation text,
    traceparent text
) with (fillfactor = 60);

-- A commit between a tree's first and its last changes none of the indexed columns, so it is a HOT update; the
-- fill factor leaves it room on its page.

-- Claims: trees without owner that any worker may go on with, by when they are due.
create index tree_ready on tree (ready_at) where owner is null and ready_at is not null and needs is null;
-- Claims: those that only some workers may go on with; apart, so that they never stand in front of the others.
create index tree_needed on tree (needs, ready_at) where owner is null and ready_at is not null and needs is not null;
-- Takeovers: the trees of a worker that is not alive.
create index tree_owned on tree (owner, id) where owner is not null;
-- Lists of one function's trees, newest first.
create index tree_function on tree (function, id);

create table invocation (
    tree_id uuid not null,
    path bytea not null,
    created_at timestamptz not null,
    settled_at timestamptz,
    -- Reserved: never later than its parent's.
    deadline timestamptz,
    version integer not null,
    attempt integer not null,
    number integer,
    seen integer,
    phase smallint not null,
    closing smallint not null,
    function text not null,
    input bytea not null,
    outcome bytea,
    parked bytea,
    primary key (tree_id, path)
) with (fillfactor = 50);
