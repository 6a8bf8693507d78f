-- How partitions of a group stand. Those that were never assigned have no row.
select o.topic, o.partition, o.topic_id, o.epoch, o.next_offset
from unnest($2::text[], $3::integer[], $4::text[]) as u (topic, partition, topic_id)
join context.group_offset o
    on o.consumer_group = $1 and o.topic = u.topic and o.partition = u.partition and o.topic_id = u.topic_id;
