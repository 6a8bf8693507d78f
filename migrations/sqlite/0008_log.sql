-- The store's own log: the broker of a context that has no other. The offsets of a topic ascend without gaps.
create table log_record (
    log_offset integer not null,
    time integer not null,
    topic text not null,
    key text not null,
    headers text not null,
    content blob not null,
    primary key (topic, log_offset)
) strict, without rowid;

-- The next offset of each topic. It is stored, so that offsets go on ascending when old records are deleted.
create table log_topic (
    topic text not null primary key,
    next_offset integer not null default 0
) strict, without rowid;
