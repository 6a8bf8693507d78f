-- Events on their way out.

-- What was fixed when this schema was created: one row.
create table meta (
    only_row boolean primary key default true check (only_row),
    lanes smallint not null
);
insert into meta (lanes) values (16);

-- Who publishes a lane, and how far it has come. Emitters never touch these rows: their lane is an advisory lock.
create table lane (
    lane smallint primary key,
    publisher bigint,
    -- Counts the leases: a stale publisher's cursor is refused by it.
    epoch bigint not null default 0,
    cursor bigint not null default 0
) with (fillfactor = 20);
insert into lane (lane) select generate_series(0, lanes - 1) from meta;

-- Read under the lock of a lane, so that within a lane its order is the order of commits. A gap means nothing.
create sequence outbox_seq;

create table outbox (
    seq bigint not null,
    tree_id uuid not null,
    time timestamptz not null,
    lane smallint not null,
    id text not null,
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
