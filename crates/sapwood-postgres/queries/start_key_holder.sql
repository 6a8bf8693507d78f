-- The trees that have keys, with the ordinal of the key asked for. An outer join, so that a key whose tree is gone
-- still counts as taken.
select u.ordinal, k.tree_id, k.digest = u.digest as same_digest, coalesce(t.function, '') as function
from unnest($1::text[], $2::text[], $3::bytea[]) with ordinality as u (scope, key, digest, ordinal)
join context.start_key k on k.scope = u.scope and k.key = u.key
left join context.tree t on t.id = k.tree_id;
