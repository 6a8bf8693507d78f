-- Events on their way out.

-- What was fixed when this store was created; exactly one row.
create table store_setting (
    only_row integer primary key default 1 check (only_row = 1),
    lanes integer not null
) strict;

insert into store_setting (lanes) values (16);

-- The publisher of each lane, and how far it has published.
create table lane (
    lane integer primary key check (lane between 0 and 32767),
    publisher integer,
    -- Counts the leases of the lane, so that a stale publisher is refused.
    epoch integer not null default 0,
    published integer not null default 0,
    -- The last `seq` given in the lane. It is a column of its own, so that `seq` goes on ascending when published rows
    -- are deleted.
    last_seq integer not null default 0
) strict;

insert into lane (lane)
with recursive counted (lane) as (
    select 0
    union all
    select lane + 1 from counted where lane + 1 < (select lanes from store_setting)
)
select lane from counted;

-- Within a lane the order of `seq` is the order of commits.
create table outbox (
    seq integer not null,
    tree_id blob not null,
    time integer not null,
    lane integer not null,
    event_id text not null,
    topic text not null,
    key text not null,
    cloud_type text not null,
    source text not null,
    correlation text not null,
    causation text not null,
    traceparent text,
    content blob not null,
    primary key (lane, seq)
) strict, without rowid;
