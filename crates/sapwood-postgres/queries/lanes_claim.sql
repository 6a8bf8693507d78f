-- Leases lanes that no live worker publishes; says all that the worker then holds.
with me as materialized (
    select id from worker where id = $1 and state = 'alive' for key share
),
free as materialized (
    select l.lane
    from lane l
    where (l.publisher is null or (select w.state from worker w where w.id = l.publisher) is distinct from 'alive')
        and (select count(*) from me) = 1
    order by l.lane
    limit $2
    for no key update of l skip locked
),
leased as (
    update lane l
    set publisher = $1, epoch = l.epoch + 1
    from free f
    where l.lane = f.lane
    returning l.lane, l.epoch, l.cursor
)
select (select count(*) from me) = 1 as alive, h.lane, h.epoch, h.cursor
from (select 1) one
left join (
    select lane, epoch, cursor from leased
    union all
    select lane, epoch, cursor from lane where publisher = $1
) h on true
order by h.lane;
