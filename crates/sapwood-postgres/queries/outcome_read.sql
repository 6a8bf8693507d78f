-- A root that has returned has an outcome before its children are closed; readers see it once the tree is settled.
select t.state, t.closing, t.function, t.version, i.attempt, case when t.state >= 3 then i.outcome end as outcome,
    t.state < 3 and coalesce(t.deadline <= context.sapwood_now(), false) as is_late
from context.tree t
left join context.invocation i on i.tree_id = t.id and i.path = '\x00'
where t.id = $1;
