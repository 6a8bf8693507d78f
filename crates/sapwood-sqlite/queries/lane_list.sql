select lane, epoch, cursor
from lane
where owner = ?1
order by lane
