-- Gives a fence a new incarnation: what was sent under an earlier one is refused from now on. No row: the worker is not
-- alive.
update fence
set incarnation = incarnation + 1
where worker = ?1 and fence = ?2 and state = 'alive'
returning incarnation
