-- A root that has returned has an outcome before its children are closed; readers see it once the tree is settled.
select
    tree.state, tree.closing, tree.function, tree.version, root.attempt,
    case when tree.state >= 3 then root.outcome end,
    tree.state < 3 and coalesce(tree.deadline <= ?2, false)
from tree
left join invocation as root on root.tree_id = tree.id and root.path = x'00'
where tree.id = ?1
