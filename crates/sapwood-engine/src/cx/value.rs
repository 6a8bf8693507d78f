//! `cx.now`, `cx.random`, `cx.uuid`: values of the outside world that replay the same (R5).

use std::panic::Location;

use jiff::Timestamp;
use sapwood_core::Dependencies;
use serde::{Serialize, de::DeserializeOwned};
use uuid::Uuid;

use super::Cx;
use crate::activation::Fresh;
use crate::environment::Environment;
use crate::payload::{decode, encode};
use crate::replay::{Asked, OpKind};

impl<D: Dependencies> Cx<D> {
    /// The time when this line first ran.
    #[must_use]
    #[track_caller]
    pub fn now(&mut self) -> Timestamp {
        self.value("now", |environment| environment.now())
    }

    /// A random number, drawn when this line first ran: uniform over all 64 bits.
    #[must_use]
    #[track_caller]
    pub fn random(&mut self) -> u64 {
        self.value("random", |environment| environment.random())
    }

    /// A random UUID (version 4), drawn when this line first ran.
    #[must_use]
    #[track_caller]
    pub fn uuid(&mut self) -> Uuid {
        self.value("uuid", |environment| environment.uuid())
    }

    #[track_caller]
    fn value<T: Serialize + DeserializeOwned>(
        &mut self,
        kind: &'static str,
        draw: impl FnOnce(&dyn Environment) -> T,
    ) -> T {
        let location = Location::caller();
        let asked = Asked { kind: OpKind::Value, name: kind, input: None, location };
        let (position, recorded) = self.cell.ask(&asked);
        let value = match recorded.and_then(|recorded| recorded.value) {
            Some(value) => value,
            None => {
                let value = encode(&draw(self.cell.facts().environment.as_ref()));
                self.cell.fresh(Fresh::Value { position, kind, value: value.clone() });
                value
            }
        };
        // The first run, too, reads the value back from its recorded form (R6).
        match decode(&value) {
            Ok(value) => value,
            Err(error) => self.cell.unreadable(position, location, std::any::type_name::<T>(), &error),
        }
    }
}
