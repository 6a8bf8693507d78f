update lane
set owner = null
where owner = ?1
