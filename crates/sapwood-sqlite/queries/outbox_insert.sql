insert into outbox (
    lane, seq, event_id, topic, key, cloud_type, source, time, tree_id, correlation, causation, traceparent, content
)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
