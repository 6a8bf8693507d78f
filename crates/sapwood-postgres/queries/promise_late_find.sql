-- Finds whether an external promise of a tree is not settled though its deadline (a timer of kind 4) has passed.
select t.position
from context.timer t
left join context.promise p on p.tree_id = t.tree_id and p.path = t.path and p.position = t.position
where t.tree_id = $1 and t.kind = 4 and t.due_at <= context.sapwood_now() and p.tree_id is null
limit 1;
