select path, function, version, input, attempt, state, closing, number, seen, outcome, parked, undo, deadline
from invocation
where tree_id = ?1 and path between ?2 and ?3
order by path
