insert into intake_position (consumer_group, topic, partition, topic_id, epoch)
values (?1, ?2, ?3, ?4, 1)
on conflict (consumer_group, topic, partition, topic_id) do update set epoch = epoch + 1
returning epoch, next_offset
