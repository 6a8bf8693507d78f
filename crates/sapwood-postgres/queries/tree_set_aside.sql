-- Sets a tree aside that its owner cannot drive; the outcome of a settled one (its state is 3 or more) stays. No row: it is not this worker's, or the worker is not alive.
with me as materialized (
    -- This waits for a burial of this worker, and a burial waits for it.
    select id from context.worker where id = $1 and state = 'alive' for key share
)
update context.tree
set owner = null, revision = least(revision, 9223372036854775806) + 1, 
    state = case when state < 3 then 2 else state end, ready_at = null, needs = null, aside = $3
where id = $2 and owner = $1 and (select count(*) from me) = 1
returning true as owned;
