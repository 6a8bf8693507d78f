select path, recorded_at, seq, kind, position, number, attempt, name, payload
from entry
where tree = ?1
order by path, seq
