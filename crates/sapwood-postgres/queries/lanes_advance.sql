-- Writes cursors back; those of a lane that another has leased since do not move. A cursor never goes back.
update lane l
set cursor = greatest(l.cursor, m.cursor)
from unnest($2::smallint[], $3::bigint[], $4::bigint[]) as m (lane, epoch, cursor)
where l.lane = m.lane and l.epoch = m.epoch and l.publisher = $1
returning l.lane;
