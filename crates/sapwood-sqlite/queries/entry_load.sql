select seq, kind, position, number, attempt, name, payload
from entry
where tree = ?1 and path = ?2
order by seq
