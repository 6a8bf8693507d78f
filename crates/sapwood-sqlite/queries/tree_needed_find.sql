-- Trees without an owner that are due and that only some workers may go on with, this one among them; longest due
-- first.
select
    id, function, version, state, closing, owner, revision, control, applied, inbox, number, ready_at, needs, aside,
    correlation, causation, traceparent, created_at, deadline, settled_at
from tree indexed by tree_needed
where owner is null
  and needs in (select value from json_each(?3))
  and ready_at <= ?1
  and (state < 4 or closing = 1)
order by ready_at
limit ?2
