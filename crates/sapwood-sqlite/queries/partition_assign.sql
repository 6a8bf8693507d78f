-- Assigns a partition to a member of a group, under the next epoch, which refuses the member that had it before.
insert into group_offset (consumer_group, topic, partition, topic_id, epoch)
values (?1, ?2, ?3, ?4, 1)
on conflict (consumer_group, topic, partition, topic_id) do update set epoch = min(epoch, 9223372036854775806) + 1
returning epoch, next_offset
