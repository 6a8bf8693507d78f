-- The workers of this store, and the fences that their commits name. Times are microseconds since 1970.

-- A worker lives as long as its process; its id is never used again (autoincrement).
create table worker (
    -- Bounded, because after the greatest integer SQLite no longer gives one.
    id integer primary key autoincrement check (id < 9000000000000000000),
    name text not null,
    -- A file has one process at a time, so none asks after another.
    process blob,
    -- 'dead' was declared by another worker or at an opening, 'left' by the worker itself. Both are final.
    state text not null default 'alive' check (state in ('alive', 'dead', 'left')),
    joined_at integer not null,
    renewals integer not null default 0,
    lease_us integer not null,
    ended_at integer
) strict;

-- One row per committer or starter.
create table fence (
    worker integer not null,
    fence integer not null,
    -- Counts the recoveries. A commit names the incarnation it knows, so what was sent before a recovery is refused.
    incarnation integer not null default 0,
    state text not null default 'alive' check (state in ('alive', 'dead', 'left')),
    primary key (worker, fence)
) strict, without rowid;
