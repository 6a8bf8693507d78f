insert into control_request (tree_id, control, verb, path, actor, reason, requested_at)
values (?1, ?2, ?3, ?4, ?5, ?6, ?7)
