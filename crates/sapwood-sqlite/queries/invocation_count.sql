select count(*)
from invocation
where tree_id = ?1
