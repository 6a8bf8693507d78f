-- Trees without an owner that are due and that any worker may go on with; longest due first.
select
    id, function, version, state, closing, owner, revision, control, applied, inbox, number, ready_at, needs, aside,
    correlation, causation, traceparent, created_at, deadline, settled_at
from tree indexed by tree_ready
where owner is null
  and needs is null
  and ready_at <= ?1
  and (state < 4 or closing = 1)
order by ready_at
limit ?2
