-- What a re-execution reads instead of doing it again; append only.
create table journal (
    tree_id blob not null,
    recorded_at integer not null,
    path blob not null,
    seq integer not null,
    -- An unsigned number: the largest one is an entry about the invocation itself.
    position integer not null,
    number integer,
    attempt integer not null,
    kind integer not null,
    name text not null,
    payload blob not null,
    primary key (tree_id, path, seq)
) strict, without rowid;
