-- The store's own log, the broker of the embedded default. Offsets of a topic ascend without gaps.
create table log_topic (
    topic text not null primary key,
    next_offset integer not null default 0
) strict, without rowid;

create table log_record (
    topic text not null,
    log_offset integer not null,
    time integer not null,
    key text not null,
    headers text not null,
    content blob not null,
    primary key (topic, log_offset)
) strict, without rowid;
