-- The lanes of the outbox: who publishes each, how far that is, and the last place given in it. The last place is a
-- column of its own, so that it goes on ascending when published rows are deleted.
create table lane (
    lane integer primary key,
    owner integer,
    epoch integer not null default 0,
    cursor integer not null default 0,
    last_seq integer not null default 0
) strict;

insert into lane (lane) values (0), (1), (2), (3), (4), (5), (6), (7), (8), (9), (10), (11), (12), (13), (14), (15);

-- Events on their way out; within a lane the order of `seq` is the order of commits.
create table outbox (
    lane integer not null,
    seq integer not null,
    event_id text not null,
    topic text not null,
    key text not null,
    cloud_type text not null,
    source text not null,
    time integer not null,
    tree blob not null,
    correlation text not null,
    causation text not null,
    traceparent text,
    content blob not null,
    primary key (lane, seq)
) strict, without rowid;
