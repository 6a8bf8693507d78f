-- Outer, so that a key whose tree is gone already still says that it is held.
select start_key.tree, start_key.digest, coalesce(tree.function, '')
from start_key
left join tree on tree.id = start_key.tree
where start_key.scope = ?1 and start_key.key = ?2
