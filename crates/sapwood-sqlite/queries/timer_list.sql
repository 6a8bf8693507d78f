select path, position, kind, due_at
from timer
where tree_id = ?1
order by path, position
