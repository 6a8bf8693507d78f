-- The promises of a tree that were settled, and that no entry (kind 13) has recorded yet.
select path, position, name, state, outcome, settled_at, inbox
from promise
where tree_id = ?1
  and (path, position) not in (select path, position from journal where tree_id = ?1 and kind = 13)
order by inbox
