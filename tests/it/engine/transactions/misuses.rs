//! What a transactional step must not do, and what it may.

use std::sync::Arc;

use super::{Ledger, LedgerError, Sql};

/// What an author does besides, by name.
pub(super) async fn go_on<L: Ledger>(tx: &mut impl Sql, app: &Arc<L>, how: &str) -> Result<(), LedgerError> {
    let (ledger, probe) = (app.ledger(), app.probe());
    match how {
        "plainly" => {}
        "fails" => return Err(LedgerError::Refused { what: "it".to_owned() }),
        "fails twice" if probe.count("ran") <= 2 => return Err(LedgerError::Busy { what: "it".to_owned() }),
        "takes too long" => std::future::pending().await,
        "waits" => probe.pass("gate").await,
        "breaks a constraint" => {
            tx.run(format!("insert into {ledger} (entry, below) values ('{how}', null)")).await?;
        }
        "breaks a deferred constraint" => {
            tx.run(format!("insert into {ledger} (entry, below) values ('below', 'nothing')")).await?;
        }
        _ => {}
    }
    Ok(())
}
