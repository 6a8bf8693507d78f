select seq, kind, position, number, attempt, name, payload
from journal
where tree_id = ?1 and path = ?2
order by seq
