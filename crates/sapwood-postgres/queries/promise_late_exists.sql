-- Whether the deadline of an external promise of a tree (a timer of kind 4) has passed.
select exists (
    select from context.timer t
    where t.tree_id = $1 and t.kind = 4 and t.due_at <= context.sapwood_now()
);
