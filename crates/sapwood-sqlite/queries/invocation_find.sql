-- The invocation that a request names, those of its tree that wait for an operator or are undone (their closing is 1 or 3), and
-- of an undo that is named the next round.
select path, state, closing, parked is not null
from invocation
where tree_id = ?1 and (path = ?2 or path = ?3 or parked is not null or closing in (1, 3))
