select
    seq, lane, event_id, topic, key, cloud_type, source, time, tree_id, correlation, causation, traceparent, content
from context.outbox
where lane = $1 and seq > $2
order by seq
limit $3;
