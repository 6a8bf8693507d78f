select path, function, version, input, attempt, phase, closing, number, seen, outcome, parked
from invocation
where tree = ?1 and path = ?2
