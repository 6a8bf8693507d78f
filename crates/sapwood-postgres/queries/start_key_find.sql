select tree_id from start_key where scope = $1 and key = $2;
