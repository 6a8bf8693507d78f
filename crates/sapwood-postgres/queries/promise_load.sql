-- The promises of a tree that were settled up to a number of its inbox counter, and that no entry (kind 13) has recorded yet.
with entered as materialized (
    select j.path, j.position from context.journal j where j.tree_id = $1 and j.kind = 13
)
select p.path, p.position, p.name, p.state, p.outcome, p.settled_at, p.inbox
from context.promise p
where p.tree_id = $1
    and p.inbox <= $2
    and not exists (select from entered e where e.path = p.path and e.position = p.position)
order by p.inbox;
