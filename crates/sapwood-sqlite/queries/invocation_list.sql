select path, function, version, input, attempt, state, closing, number, seen, outcome, parked, undo, deadline,
    created_at, settled_at
from invocation
where tree_id = ?1
order by path
