//! The fake gateways: as slow as the command line says, and as unreliable as the order says.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use orders_contract::Orders;
use sapwood::prelude::*;

use crate::model::{Card, Line, PaymentError, StockError};

/// What the functions of orders need.
#[derive(Dependencies)]
#[dependencies(of = Orders)]
pub struct OrdersDependencies {
    latency: Duration,
    effects: Effects,
    /// How often each step has called a gateway, by its idempotency key.
    tries: Mutex<HashMap<String, u32>>,
}

impl OrdersDependencies {
    /// Gateways that take `latency` for each call, and note what they do in `effects`.
    #[must_use]
    pub fn new(latency: Duration, effects: Effects) -> Self {
        Self { latency, effects, tries: Mutex::default() }
    }

    pub(crate) async fn reserve(&self, key: &str, line: &Line) -> Result<String, StockError> {
        self.reach(key, "reserve").await;
        if line.unavailable {
            return Err(StockError::OutOfStock { sku: line.sku.clone() });
        }
        if self.fails(key, line.fail_first) {
            return Err(StockError::Unavailable);
        }
        Ok(format!("{}x{}", line.quantity, line.sku))
    }

    pub(crate) async fn release(&self, key: &str, _reservation: &str) -> Result<(), StockError> {
        self.reach(key, "release").await;
        Ok(())
    }

    pub(crate) async fn charge(&self, key: &str, card: &Card, total_cents: u64) -> Result<String, PaymentError> {
        self.reach(key, "charge").await;
        if self.fails(key, card.fail_first) {
            return Err(PaymentError::Unavailable);
        }
        match &card.decline {
            Some(reason) => Err(PaymentError::Declined { reason: reason.clone() }),
            None => Ok(format!("{total_cents} cents from {}", card.number)),
        }
    }

    pub(crate) async fn confirm(&self, key: &str, _order_id: &str) -> Result<(), StockError> {
        self.reach(key, "confirm").await;
        Ok(())
    }

    async fn reach(&self, key: &str, what: &str) {
        tokio::time::sleep(self.latency).await;
        self.effects.note(key, what);
    }

    /// Whether this attempt is one of the first `fail_first` of its step.
    fn fails(&self, key: &str, fail_first: u32) -> bool {
        if fail_first == 0 {
            return false;
        }
        let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        let tries = tries.entry(key.to_owned()).or_default();
        *tries += 1;
        *tries <= fail_first
    }
}

/// Where side effects are noted, one per line: the key of the step, and what it did. Tests count them.
#[derive(Clone, Default)]
pub struct Effects(Option<Arc<Mutex<File>>>);

impl Effects {
    /// Notes them at the end of `file`.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn to_file(file: &Path) -> std::io::Result<Self> {
        let file = File::options().create(true).append(true).open(file)?;
        Ok(Self(Some(Arc::new(Mutex::new(file)))))
    }

    /// Notes one. A line is one write, so that a killed process does not leave half a line.
    pub fn note(&self, key: &str, what: &str) {
        let Some(file) = &self.0 else { return };
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(format!("{key} {what}\n").as_bytes()).expect("the file of effects can be written");
    }
}
