-- The requests for a tree after one of them, in the order in which they were made.
select control, verb, path, actor, reason, requested_at
from control_request
where tree_id = ?1 and control > ?2
order by control
