//! A pooler before PostgreSQL.
