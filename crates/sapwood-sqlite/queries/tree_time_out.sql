-- Goes with the settling of an invocation by its deadline: it took the next completion number, or it was the root.
update tree
set number = iif(?2 = x'00', number, number + 1),
    state = iif(?2 = x'00', 3, state),
    settled_at = iif(?2 = x'00', coalesce(settled_at, max(created_at, ?3)), settled_at)
where id = ?1
