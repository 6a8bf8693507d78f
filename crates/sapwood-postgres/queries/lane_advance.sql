-- Writes back how far lanes are published. A lane that was leased to another publisher since does not move, and no lane
-- moves back. Nor does one without the row that is said to be published: the store went back after it was, and to go
-- beyond what is there would pass over what is committed next.
update context.lane l
set published = greatest(l.published, a.published)
from unnest($2::smallint[], $3::bigint[], $4::bigint[]) as a (lane, epoch, published)
where l.lane = a.lane and l.epoch = a.epoch and l.publisher = $1
    and (select 1 from context.outbox o where o.lane = a.lane and o.seq = a.published) = 1
returning l.lane;
