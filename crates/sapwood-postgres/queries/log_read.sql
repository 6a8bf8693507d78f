select "offset", time, topic, key, headers, content
from log
where topic = $1 and "offset" >= $2
order by "offset"
limit $3;
