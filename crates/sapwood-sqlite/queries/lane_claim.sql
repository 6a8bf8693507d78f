-- Lanes that no live worker publishes.
update lane
set owner = ?1, epoch = epoch + 1
where lane in (
    select lane.lane
    from lane
    where not exists (select 1 from worker where worker.id = lane.owner and worker.state = 0)
    order by lane.lane
    limit ?2
)
