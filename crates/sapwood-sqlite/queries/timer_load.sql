select path, position, kind, due_at
from timer
where tree_id = ?1 and path = ?2
order by position
