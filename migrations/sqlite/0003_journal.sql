-- What a re-execution reads instead of doing it again; append only.
create table entry (
    tree blob not null,
    path blob not null,
    seq integer not null,
    kind integer not null,
    position integer not null,
    number integer,
    attempt integer not null,
    name text not null,
    payload blob not null,
    recorded_at integer not null,
    primary key (tree, path, seq)
) strict, without rowid;
