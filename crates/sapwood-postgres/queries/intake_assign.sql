-- Takes partitions for a group, each under the next epoch: whoever had it before is refused from now on.
insert into intake_position as p ("group", topic, partition, topic_id, epoch)
select $1, u.topic, u.partition, u.topic_id, 1
from (
    select * from unnest($2::text[], $3::integer[], $4::text[]) as u (topic, partition, topic_id)
    order by topic collate "C", partition, topic_id collate "C"
) u
on conflict ("group", topic, partition, topic_id) do update set epoch = p.epoch + 1
returning p.topic, p.partition, p.topic_id, p.epoch, p.next_offset;
