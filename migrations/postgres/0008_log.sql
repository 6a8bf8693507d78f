-- The store's own log: topics without a broker.

create table log (
    "offset" bigint not null,
    time timestamptz not null,
    topic text collate "C" not null,
    key text not null,
    headers text not null,
    content bytea not null,
    primary key (topic, "offset")
);

-- The next offset of a topic, as of the call and not of the statement around it: a volatile function reads with a
-- snapshot of its own, so what was committed while the statement waited for the topic's lock is seen.
create function log_head(of_topic text) returns bigint
    language sql volatile
    as $$ select coalesce(max(log."offset") + 1, 0) from log where log.topic = of_topic $$;
