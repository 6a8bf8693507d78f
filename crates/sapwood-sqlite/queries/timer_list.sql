select path, position, kind, due_at
from timer
where tree = ?1
order by path, position
