-- The promise of an invocation, for a request that names it.
select state
from invocation
where tree_id = ?1 and path = ?2
