update fence
set incarnation = incarnation + 1
where worker = ?1 and slot = ?2 and state = 0
returning incarnation
