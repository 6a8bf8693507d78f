-- How far the groups of this context have read the topics of others. The store is the truth, not the broker.

create table intake_position (
    "group" text collate "C" not null,
    topic text collate "C" not null,
    partition integer not null,
    -- The broker's id of this incarnation of the topic; empty where it has none. A re-created topic is another one.
    topic_id text collate "C" not null,
    -- Counts the assignments: a position of an earlier one is refused.
    epoch bigint not null,
    -- Null until the first batch was taken in.
    next_offset bigint,
    primary key ("group", topic, partition, topic_id)
) with (fillfactor = 50);
