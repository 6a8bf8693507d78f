-- When the first tree is due that is left and that this worker may go on with. The first of each version is one step
-- into the index.
select min(ready_at)
from (
    select * from (
        select ready_at
        from tree indexed by tree_ready
        where owner is null and needs is null and ready_at is not null and (state < 4 or closing = 1)
        order by ready_at
        limit 1
    )
    union all
    select (
        select tree.ready_at
        from tree indexed by tree_needed
        where tree.owner is null and tree.needs = version.value and tree.ready_at is not null and (tree.state < 4 or tree.closing = 1)
        order by tree.ready_at
        limit 1
    )
    from json_each(?1) as version
)
