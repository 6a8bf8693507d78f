-- Clears every timer of an invocation.
delete from timer
where tree_id = ?1 and path = ?2
