-- The migrations that made this schema.
select version, checksum
from _sqlx_migrations
where success
order by version;
