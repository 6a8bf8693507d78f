select log_offset, time, topic, key, headers, content
from context.log_record
where topic = $1 and log_offset >= $2
order by log_offset
limit $3;
