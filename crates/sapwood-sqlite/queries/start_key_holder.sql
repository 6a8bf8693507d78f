-- The tree that has a key. An outer join, so that a key whose tree is gone still counts as taken.
select start_key.tree_id, start_key.digest, coalesce(tree.function, '')
from start_key
left join tree on tree.id = start_key.tree_id
where start_key.scope = ?1 and start_key.key = ?2
