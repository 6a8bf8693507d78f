-- Trees whose owner is not alive, that were taken over before and have committed nothing since: one of them may be what
-- its workers died of. The least often taken over come first.
select
    id, function, version, state, closing, owner, revision, control, applied, inbox, number, ready_at, needs, aside,
    correlation, causation, traceparent, created_at, deadline, settled_at, takeovers
from tree indexed by tree_owned
where owner in (select worker.id from worker where worker.state <> 'alive')
  and (state < 4 or closing = 1)
  and (needs is null or needs in (select value from json_each(?1)))
  and taken_over_at = revision and takeovers between ?3 and ?4
order by takeovers, id
limit ?2
