update group_offset
set next_offset = ?5
where consumer_group = ?1 and topic = ?2 and partition = ?3 and topic_id = ?4
