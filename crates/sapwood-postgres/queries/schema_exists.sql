select to_regclass('context._sqlx_migrations') is not null;
