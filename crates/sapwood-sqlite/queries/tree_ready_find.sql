-- Trees without owner whose time has come, and that any worker may go on with; the longest waiting first.
select id, function, version, state, owner, revision, control, inbox, number, ready_at, needs, correlation, causation, traceparent,
    created_at, settled_at
from tree indexed by tree_ready
where owner is null
  and needs is null
  and ready_at <= ?1
  and state <= 2
order by ready_at
limit ?2
