select path, recorded_at, seq, kind, position, number, attempt, name, payload
from journal
where tree_id = ?1
order by path, seq
