-- Writes back how far lanes are published. A lane that was leased to another publisher since does not move, and no lane
-- moves back.
update context.lane l
set published = greatest(l.published, a.published)
from unnest($2::smallint[], $3::bigint[], $4::bigint[]) as a (lane, epoch, published)
where l.lane = a.lane and l.epoch = a.epoch and l.publisher = $1
returning l.lane;
