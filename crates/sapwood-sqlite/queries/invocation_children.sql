select path, function, version, input, attempt, phase, closing, number, seen, outcome, parked
from invocation
where tree = ?1 and path between ?2 and ?3
order by path
