-- Trees, newest first: the key is walked backwards, and a state is a filter on the way.
select
    id, function, version, state, closing, owner, revision, control, applied, inbox, number, ready_at, needs, aside,
    correlation, causation, traceparent, created_at, deadline, settled_at
from tree
where id < ?1 and (?2 is null or state = ?2 or ?2 = 7 and state = 3)
order by id desc
limit ?3
