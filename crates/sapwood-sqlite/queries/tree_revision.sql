-- How far a tree is, and whose: one with a commit of unknown outcome, read after the fence has a new incarnation, or of
-- commits that the store may have lost.
select revision, owner
from tree
where id = ?1
