select incarnation
from fence
where worker = ?1 and slot = ?2 and state = 0
