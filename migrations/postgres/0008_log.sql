-- The store's own log: the broker of a context that has no other. The offsets of a topic ascend without gaps.
create table log_record (
    log_offset bigint not null,
    time timestamptz not null,
    topic text collate "C" not null,
    key text not null,
    headers text not null,
    content bytea not null,
    primary key (topic, log_offset)
);

-- The next offset of a topic, as of the call and not of the statement around it: a volatile function reads with a
-- snapshot of its own, so it sees what was committed while the statement waited for the lock of the topic. Its body is
-- bound to the table now, so it needs no `search_path` when it is called.
create function log_next_offset(of_topic text) returns bigint
    language sql volatile
    begin atomic
        select coalesce(max(log_offset) + 1, 0) from log_record where topic = of_topic;
    end;
