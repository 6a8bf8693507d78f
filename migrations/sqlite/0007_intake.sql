-- Where each group goes on, a partition each. A topic that was deleted and created again is another topic:
-- its id is part of the key, empty where the broker has none.
create table intake_position (
    consumer_group text not null,
    topic text not null,
    partition integer not null,
    topic_id text not null,
    epoch integer not null,
    next_offset integer,
    primary key (consumer_group, topic, partition, topic_id)
) strict, without rowid;
