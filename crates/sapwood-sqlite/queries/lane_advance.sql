-- Writes back how far a lane is published. No row touched: the lane was leased to another publisher since. No lane
-- moves back.
update lane
set published = max(published, ?)
where lane = ? and publisher = ? and epoch = ?
