-- What goes forward in a tree although its deadline has passed, the earliest deadline first.
select path
from invocation
where tree_id = ?1 and state = 0 and deadline <= ?2
order by deadline, path
