-- How far the groups of this context have read the topics of others. The store is the truth, not the broker.
create table group_offset (
    consumer_group text collate "C" not null,
    topic text collate "C" not null,
    partition integer not null,
    -- The broker's id of the topic, empty if it has none: a topic that was deleted and created again is another one.
    topic_id text collate "C" not null,
    -- Counts the assignments, so that a member whose partition went to another is refused.
    epoch bigint not null,
    -- Null until the first batch was taken in.
    next_offset bigint,
    primary key (consumer_group, topic, partition, topic_id)
) with (fillfactor = 50);
