-- Trees whose owner is not alive, but for those that were taken over before and have committed nothing since. A settled tree
-- (its state is 3 or more) has nothing left to claim, unless something of it is undone again (its closing is 1).
select
    id, function, version, state, closing, owner, revision, control, applied, inbox, number, ready_at, needs, aside,
    correlation, causation, traceparent, created_at, deadline, settled_at
from tree indexed by tree_owned
where owner in (select worker.id from worker where worker.state <> 'alive')
  and (state < 4 or closing = 1)
  and (needs is null or needs in (select value from json_each(?1)))
  and taken_over_at is not revision
limit ?2
