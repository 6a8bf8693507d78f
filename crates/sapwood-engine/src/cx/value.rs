//! `cx.now`, `cx.random`, `cx.uuid`: values of the outside world that replay the same (R5).

use std::panic::Location;

use jiff::Timestamp;
use sapwood_core::Dependencies;
use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

use super::Cx;
use crate::activation::Fresh;
use crate::registry::encode;
use crate::replay::{Asked, OpKind};

impl<A: Dependencies> Cx<A> {
    /// The time when this line first ran.
    #[must_use]
    #[track_caller]
    pub fn now(&mut self) -> Timestamp {
        let clock = std::sync::Arc::clone(&self.cell.facts().clock);
        self.value("now", || clock.now())
    }

    /// A random number, drawn when this line first ran: uniform over all 64 bits.
    #[must_use]
    #[track_caller]
    pub fn random(&mut self) -> u64 {
        self.value("random", crate::random::number)
    }

    /// A random UUID (version 4), drawn when this line first ran.
    #[must_use]
    #[track_caller]
    pub fn uuid(&mut self) -> Uuid {
        self.value("uuid", Uuid::new_v4)
    }

    #[track_caller]
    fn value<T: Serialize + DeserializeOwned>(&mut self, kind: &'static str, draw: impl FnOnce() -> T) -> T {
        let asked = Asked { kind: OpKind::Value, name: kind, input: None, location: Location::caller() };
        let (position, recorded) = self.cell.ask(&asked);
        let value = match recorded.and_then(|recorded| recorded.value) {
            Some(value) => value,
            None => {
                let value = encode(&draw());
                self.cell.fresh(Fresh::Value { position, kind, value: value.clone() });
                value
            }
        };
        // The first run, too, reads the value back from its recorded form (R6).
        match serde_json::from_slice(&value) {
            Ok(value) => value,
            Err(error) => self.cell.unreadable(position, std::any::type_name::<T>(), &error),
        }
    }
}
