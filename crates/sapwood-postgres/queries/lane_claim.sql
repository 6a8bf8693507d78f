-- Leases lanes that no live worker publishes, and returns all lanes the worker then has: always at least one row, with
-- nulls if it has none.
with me as materialized (
    select id from context.worker where id = $1 and state = 'alive' for key share
),
free as materialized (
    select l.lane
    from context.lane l
    where (l.publisher is null or (select w.state from context.worker w where w.id = l.publisher) is distinct from 'alive')
        and (select count(*) from me) = 1
    order by l.lane
    limit $2
    for no key update of l skip locked
),
leased as (
    update context.lane l
    set publisher = $1, epoch = least(l.epoch, 9223372036854775806) + 1
    from free f
    where l.lane = f.lane
    returning l.lane, l.epoch, l.published
)
select (select count(*) from me) = 1 as alive, o.lane, o.epoch, o.published
from (select 1) one
left join (
    select lane, epoch, published from leased
    union all
    select lane, epoch, published from context.lane where publisher = $1
) o on true
order by o.lane;
