-- The promises of a tree that were settled after a number of its inbox counter, in the order in which they were.
select path, position, name, state, outcome, settled_at, inbox
from promise
where tree_id = ?1 and inbox > ?2
order by inbox
