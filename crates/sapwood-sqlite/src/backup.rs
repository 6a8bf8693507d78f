//! A consistent copy of a database, made while another process works on it.

use std::fs::File;
use std::path::{Path, PathBuf};

use sapwood_core::store::StoreResult;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};

use crate::error::{classify, permanent};

/// Copies the database `from` to a new file `to`, as of one moment: everything that was acknowledged before the call is
/// in it. It takes no lock that a process working on the database would wait for.
///
/// The copy is made under another name beside `to`, flushed, and given its name last, so `to` is whole or not there.
///
/// # Errors
/// [`Permanent`](sapwood_core::store::StoreErrorKind::Permanent) if `from` is not there, or `to` is.
pub async fn backup(from: impl AsRef<Path>, to: impl AsRef<Path>) -> StoreResult<()> {
    let (from, to) = (from.as_ref(), to.as_ref());
    if !from.is_file() {
        return Err(permanent(format!("there is no SQLite database {}", from.display())));
    }
    let partial = partial(to);
    let copied = async {
        refuse_existing(to)?;
        copy(from, &partial).await?;
        give_name(&partial, to)
    }
    .await;
    // Also after a success, because the name that it was given is a second one. It is not there if nothing was copied.
    let _ = std::fs::remove_file(&partial);
    copied
}

fn refuse_existing(to: &Path) -> StoreResult<()> {
    if to.try_exists().unwrap_or(true) {
        return Err(permanent(format!("{} exists: a backup overwrites nothing", to.display())));
    }
    Ok(())
}

/// The name under which a copy is made: in the same directory, and of this process only.
fn partial(to: &Path) -> PathBuf {
    let mut name = to.as_os_str().to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    PathBuf::from(name)
}

async fn copy(from: &Path, partial: &Path) -> StoreResult<()> {
    let connect = SqliteConnectOptions::new().filename(from).read_only(true).disable_statement_logging();
    let mut connection = connect.connect().await.map_err(classify)?;
    let name = partial.to_str().ok_or_else(|| permanent("the name of a backup has to be UTF-8"))?;
    sqlx::query(include_str!("../queries/store_copy.sql"))
        .bind(name)
        .execute(&mut connection)
        .await
        .map_err(classify)?;
    connection.close().await.map_err(classify)
}

/// Flushes a copy and gives it its name. A link, unlike a rename, never overwrites.
fn give_name(partial: &Path, to: &Path) -> StoreResult<()> {
    let failed =
        |error: std::io::Error| permanent(format!("the backup {} cannot be written", to.display())).caused_by(error);
    File::open(partial).and_then(|file| file.sync_all()).map_err(failed)?;
    std::fs::hard_link(partial, to).map_err(failed)?;
    let directory = to.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed)
}
