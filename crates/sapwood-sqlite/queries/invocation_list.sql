select path, function, version, input, attempt, phase, closing, number, seen, outcome, parked, created_at, settled_at
from invocation
where tree = ?1
order by path
