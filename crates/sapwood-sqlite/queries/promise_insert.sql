insert into promise (tree_id, path, position, name, state, outcome, inbox, settled_at)
values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
