-- Declares workers dead, for ever. First their own rows are locked, so that a renewal under way counts: their renewals are
-- compared again once the row is locked. Then their fences are locked `for update`, which waits for every commit
-- of theirs that is under way; every later one sees that its worker is dead.
with silent as materialized (
    select w.id
    from unnest($2::bigint[], $3::bigint[]) as s (id, renewals)
    join context.worker w on w.id = s.id
    where w.id <> $1 and w.state = 'alive' and w.renewals = s.renewals
        and exists (select 1 from context.worker where id = $1 and state = 'alive')
    order by w.id
    for update of w
),
locked as materialized (
    select f.worker, f.fence
    from silent s
    join context.fence f on f.worker = s.id
    order by f.worker, f.fence
    for update of f
),
closed as (
    update context.fence f
    set state = 'dead'
    from locked l
    where f.worker = l.worker and f.fence = l.fence
    returning 1
)
update context.worker w
set state = 'dead', ended_at = context.sapwood_now()
from silent s
where w.id = s.id and (select count(*) from closed) >= 0
returning w.id;
