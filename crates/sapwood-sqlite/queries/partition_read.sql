-- How a partition of a group stands.
select epoch, next_offset
from group_offset
where consumer_group = ?1 and topic = ?2 and partition = ?3 and topic_id = ?4
