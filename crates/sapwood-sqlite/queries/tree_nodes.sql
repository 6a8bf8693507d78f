select count(*)
from invocation
where tree = ?1
