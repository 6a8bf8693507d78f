select tree_id from context.start_key where scope = $1 and key = $2;
