-- The open trees of a worker, by id.
select id, revision, control, inbox
from context.tree
where owner = $1 and id > $2 and (state < 4 or closing = 1)
order by id
limit $3;
