-- The migrations that made this schema.
select version, checksum
from context._sqlx_migrations
where success
order by version;
