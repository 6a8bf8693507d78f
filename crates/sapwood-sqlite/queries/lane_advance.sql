-- Writes back how far a lane is published. No row touched: the lane was leased to another publisher since, or has no row at
-- that place, because the store went back after it was published. No lane moves back.
update lane
set published = max(published, ?)
where lane = ? and publisher = ? and epoch = ?
    and exists (select 1 from outbox where outbox.lane = ? and outbox.seq = ?)
