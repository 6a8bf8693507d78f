-- What a re-execution reads instead of doing it again; append only. The key is its only index, and nothing refers to
-- its rows.
create table journal (
    tree_id uuid not null,
    recorded_at timestamptz not null,
    path bytea not null,
    seq integer not null,
    -- The bits of an unsigned number: -1 is an entry about the invocation itself.
    position integer not null,
    number integer,
    attempt integer not null,
    kind smallint not null,
    name text not null,
    payload bytea not null,
    primary key (tree_id, path, seq)
);
