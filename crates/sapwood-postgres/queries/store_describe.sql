-- What the server is, how durable its commits are, and how many connections this user may have: -1 is no limit.
select
    current_setting('fsync') as fsync,
    current_setting('synchronous_commit') as synchronous_commit,
    current_setting('full_page_writes') as full_page_writes,
    current_setting('server_version_num')::integer as version,
    current_setting('server_encoding') as encoding,
    current_setting('default_transaction_isolation') as isolation,
    r.rolsuper as is_superuser,
    r.rolconnlimit as role_limit,
    d.datconnlimit as database_limit,
    current_setting('max_connections')::integer - current_setting('superuser_reserved_connections')::integer
        - coalesce(current_setting('reserved_connections', true)::integer, 0) as server_limit
from pg_roles r, pg_database d
where r.rolname = current_user and d.datname = current_database();
