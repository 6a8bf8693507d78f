-- Assigns partitions to a member of a group, each under the next epoch, which refuses the member that had it before.
-- Rows are locked in ascending order.
insert into context.group_offset as o (consumer_group, topic, partition, topic_id, epoch)
select $1, u.topic, u.partition, u.topic_id, 1
from (
    select * from unnest($2::text[], $3::integer[], $4::text[]) as u (topic, partition, topic_id)
    order by topic collate "C", partition, topic_id collate "C"
) u
on conflict (consumer_group, topic, partition, topic_id) do update set epoch = least(o.epoch, 9223372036854775806) + 1
returning o.topic, o.partition, o.topic_id, o.epoch, o.next_offset;
