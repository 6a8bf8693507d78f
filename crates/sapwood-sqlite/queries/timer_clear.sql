delete from timer
where tree_id = ? and path = ? and position = ?
