-- How far trees are, and whose: of a commit with an unknown outcome, read after the fence has a new incarnation, or of
-- commits that the store may have lost.
select t.id, t.revision, t.owner
from unnest($1::uuid[]) as a (id)
join context.tree t on t.id = a.id;
