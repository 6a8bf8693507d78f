select tree
from start_key
where scope = ?1 and key = ?2
