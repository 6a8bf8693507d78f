select tree.state, root.function, root.version, root.attempt, case when tree.state >= 3 then root.outcome end
from tree
join invocation as root on root.tree = tree.id and root.path = x'00'
where tree.id = ?1
