-- Leases lanes that no live worker publishes.
update lane
set publisher = ?1, epoch = min(epoch, 9223372036854775806) + 1
where lane in (
    select lane.lane
    from lane
    where not exists (select 1 from worker where worker.id = lane.publisher and worker.state = 'alive')
    order by lane.lane
    limit ?2
)
