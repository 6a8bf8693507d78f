-- Events on their way out.

-- What was fixed when this store was created; exactly one row.
create table store_setting (
    only_row boolean primary key default true check (only_row),
    lanes smallint not null
);

insert into store_setting (lanes) values (16);

-- The publisher of each lane, and how far it has published. Emitters never touch these rows: they lock their lane by
-- an advisory lock.
create table lane (
    lane smallint primary key,
    publisher bigint,
    -- Counts the leases of the lane, so that a stale publisher is refused.
    epoch bigint not null default 0,
    published bigint not null default 0
) with (fillfactor = 20);

insert into lane (lane) select generate_series(0, lanes - 1) from store_setting;

-- Read under the lock of a lane, so that within a lane the order of `seq` is the order of commits. A gap means nothing.
create sequence outbox_seq;

create table outbox (
    seq bigint not null,
    tree_id uuid not null,
    time timestamptz not null,
    lane smallint not null,
    event_id text not null,
    topic text not null,
    key text not null,
    cloud_type text not null,
    source text not null,
    correlation text not null,
    causation text not null,
    traceparent text,
    content bytea not null,
    primary key (lane, seq)
);
