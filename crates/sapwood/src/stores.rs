//! Opens the store of a context; if that fails, the error names the setting to correct.

use std::path::Path;
use std::sync::Arc;

use sapwood_core::clock::SystemClock;
use sapwood_core::store::{Store, StoreError, StoreErrorKind};
use sapwood_postgres::{PostgresOptions, PostgresStore};
use sapwood_sqlite::{SqliteOptions, SqliteStore};

use crate::config::{Config, StoreUrl};
use crate::error::{Result, StartupError};
use crate::hosted::Hosted;

pub(crate) async fn open(config: &Config, host: &dyn Hosted, migrate: bool) -> Result<Arc<dyn Store>> {
    let context = host.name();
    let url = config.store_of(context);
    let failed = |error| store_error(url, context, error);
    match url {
        StoreUrl::Sqlite(directory) => {
            let file = directory.join(format!("{context}.db"));
            let options = SqliteOptions::file(file).clock(Arc::new(SystemClock));
            let store = SqliteStore::open(options).await.map_err(failed)?;
            if migrate {
                store.migrate().await.map_err(failed)?;
            }
            store.schema_check().await.map_err(failed)?;
            Ok(Arc::new(store))
        }
        StoreUrl::Postgres(address) => {
            let transactions = host.database().map_or(0, |_| config.transactions);
            let options = PostgresOptions { transactions, ..postgres(config, address, context) };
            let store = PostgresStore::connect(options).await.map_err(failed)?;
            store.capacity_check().map_err(failed)?;
            if migrate {
                store.migrate().await.map_err(failed)?;
            }
            store.schema_check().await.map_err(failed)?;
            Ok(Arc::new(store))
        }
    }
}

fn postgres(config: &Config, address: &str, context: &str) -> PostgresOptions {
    let direct_url = match &config.direct_store {
        // A store of its own may be another database, where nobody hears of this one's hints.
        Some(StoreUrl::Postgres(direct)) if !config.stores.contains_key(context) => Some(direct.clone()),
        _ => None,
    };
    PostgresOptions {
        direct_url,
        reader_connections: config.reader_connections,
        worker_connections: config.worker_connections,
        committers: config.committers,
        ..PostgresOptions::new(address, context)
    }
}

/// Copies the SQLite database of a context.
pub(crate) async fn backup(url: &StoreUrl, context: &str, to: &Path) -> Result<()> {
    match url {
        StoreUrl::Sqlite(directory) => {
            let from = directory.join(format!("{context}.db"));
            sapwood_sqlite::backup(from, to).await.map_err(|error| {
                StartupError::new("backup_failed", format!("the store of `{context}` is not copied")).caused_by(error)
            })
        }
        StoreUrl::Postgres(_) => {
            let message = format!("the store of `{context}` is on PostgreSQL, which has `pg_dump` for that");
            Err(StartupError::new("backup_failed", message))
        }
    }
}

fn store_error(url: &StoreUrl, context: &str, error: StoreError) -> StartupError {
    let code = match error.kind() {
        StoreErrorKind::Permanent => "store_refused",
        _ => "store_unavailable",
    };
    let message = format!("SAPWOOD_STORE: the store of `{context}` ({url:?}) cannot be used");
    StartupError::new(code, message).caused_by(error)
}
