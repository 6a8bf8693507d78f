-- How far trees are whose last commit has an unknown outcome. Read after their fence has a new incarnation.
select t.id, t.revision, t.owner
from unnest($1::uuid[]) as a (id)
join context.tree t on t.id = a.id;
