select
    id, function, version, state, closing, owner, revision, control, applied, inbox, number, ready_at, needs, aside,
    correlation, causation, traceparent, created_at, deadline, settled_at
from tree
where id = ?1
