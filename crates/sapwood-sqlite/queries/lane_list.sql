select lane, epoch, published
from lane
where publisher = ?1
order by lane
