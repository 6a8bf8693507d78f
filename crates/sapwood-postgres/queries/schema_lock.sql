-- Taken for the transaction that makes the schema, in which the migrations find their tables by `search_path`. Both end
-- with it, so neither needs a session.
select
    pg_advisory_xact_lock(hashtext('sapwood migrate'), hashtext($1)),
    set_config('search_path', quote_ident($1), true);
