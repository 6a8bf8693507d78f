delete from timer
where tree = ? and path = ? and position = ?
