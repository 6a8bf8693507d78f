select revision, owner
from tree
where id = ?1
