-- Who holds keys. Outer, so that a key whose tree is not there any more still says that it is held.
select u.place, k.tree_id, k.digest = u.digest as same_digest, coalesce(t.function, '') as function
from unnest($1::text[], $2::text[], $3::bytea[]) with ordinality as u (scope, key, digest, place)
join key k on k.scope = u.scope and k.key = u.key
left join tree t on t.id = k.tree_id;
