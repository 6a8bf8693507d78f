-- How far a tree is whose last commit has an unknown outcome. Read after its fence has a new incarnation.
select revision, owner
from tree
where id = ?1
