-- Trees whose owner is not alive. A settled tree has nothing left to claim.
select id, function, version, state, owner, revision, control, inbox, number, ready_at, needs, correlation, causation, traceparent,
    created_at, settled_at
from tree indexed by tree_owned
where owner in (select worker.id from worker where worker.state = 1)
  and state <= 2
  and (needs is null or needs in (select value from json_each(?1)))
limit ?2
