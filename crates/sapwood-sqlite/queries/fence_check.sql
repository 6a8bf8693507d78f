-- The incarnation of an open fence. No row: the worker is not alive.
select incarnation
from fence
where worker = ?1 and fence = ?2 and state = 'alive'
