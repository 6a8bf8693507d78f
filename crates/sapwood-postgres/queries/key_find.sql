select tree_id from key where scope = $1 and key = $2;
