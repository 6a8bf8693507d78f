-- Gives offsets in a topic, and returns the first one after them.
insert into log_topic (topic, next_offset)
values (?1, ?2)
on conflict (topic) do update set next_offset = next_offset + excluded.next_offset
returning next_offset
