-- Settles an invocation by its deadline. Its completion number is the next of the tree; a root has none.
update invocation
set state = 4, parked = null, settled_at = max(created_at, ?3),
    number = iif(path = x'00', null, (select tree.number + 1 from tree where tree.id = tree_id))
where tree_id = ?1 and path = ?2
