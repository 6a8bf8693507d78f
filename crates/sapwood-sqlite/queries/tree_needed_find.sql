-- The same, of those that only some workers may go on with.
select id, function, version, state, owner, revision, control, inbox, number, ready_at, needs, correlation, causation, traceparent,
    created_at, settled_at
from tree indexed by tree_needed
where owner is null
  and needs in (select value from json_each(?3))
  and ready_at <= ?1
  and state <= 2
order by ready_at
limit ?2
