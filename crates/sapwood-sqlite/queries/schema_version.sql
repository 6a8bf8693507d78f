-- The newest migration applied.
select coalesce(max(version), 0)
from _sqlx_migrations
where success
