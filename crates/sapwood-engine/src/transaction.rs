//! The transaction that an author works in.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use parking_lot::Mutex;
use sapwood_core::store::{Database, StepTransaction};

/// A transaction of a transactional step: it derefs to the connection of its database, such as
/// `sqlx::PgConnection`. Given by [`Cx::transaction`](crate::Cx::transaction), and committed by the step when its closure has
/// returned `Ok`.
pub struct Transaction<B: Database> {
    /// `None` only while it is dropped.
    open: Option<Box<dyn StepTransaction>>,
    place: Place,
    database: PhantomData<fn() -> B>,
}

/// Where a transaction comes back to when its author drops it.
#[derive(Clone, Default)]
pub(crate) struct Place(Arc<Mutex<Option<Box<dyn StepTransaction>>>>);

impl Place {
    /// The transaction, if it has come back.
    pub(crate) fn take(&self) -> Option<Box<dyn StepTransaction>> {
        self.0.lock().take()
    }
}

impl<B: Database> Transaction<B> {
    /// An open transaction for an author, and its place; `None` if it is of another database.
    pub(crate) fn of(open: Box<dyn StepTransaction>) -> Option<(Self, Place)> {
        if !open.connection().is::<B::Connection>() {
            return None;
        }
        let place = Place::default();
        Some((Self { open: Some(open), place: place.clone(), database: PhantomData }, place))
    }
}

/// What holds since it was begun.
fn connection_of<C: 'static>(connection: Option<&(dyn Any + Send)>) -> &C {
    match connection.and_then(|connection| connection.downcast_ref()) {
        Some(connection) => connection,
        None => unreachable!("a transaction has its connection until it is dropped"),
    }
}

impl<B: Database> Deref for Transaction<B> {
    type Target = B::Connection;

    fn deref(&self) -> &B::Connection {
        connection_of(self.open.as_deref().map(|open| open.connection()))
    }
}

impl<B: Database> DerefMut for Transaction<B> {
    fn deref_mut(&mut self) -> &mut B::Connection {
        let connection = self.open.as_deref_mut().map(StepTransaction::connection_mut);
        match connection.and_then(|connection| connection.downcast_mut()) {
            Some(connection) => connection,
            None => unreachable!("a transaction has its connection until it is dropped"),
        }
    }
}

impl<B: Database> Drop for Transaction<B> {
    fn drop(&mut self) {
        *self.place.0.lock() = self.open.take();
    }
}

impl<B: Database> fmt::Debug for Transaction<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transaction")
    }
}
