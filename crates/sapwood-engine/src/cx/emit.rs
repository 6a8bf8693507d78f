//! `cx.emit`: a domain event, committed with the function's own progress (E2).

use std::panic::Location;

use sapwood_core::{Dependencies, EmittableFrom};

use super::Cx;
use crate::replay::{Asked, OpKind};

impl<D: Dependencies> Cx<D> {
    /// Emits a domain event of this context.
    ///
    /// It commits with what the function records next, at the latest with its completion, and is published after
    /// that. The function learns nothing of its consumers.
    #[track_caller]
    pub fn emit<E: EmittableFrom<D::Context>>(&mut self, event: E) {
        let location = Location::caller();
        let cloud_type = E::cloud_type();
        let content = self.cell.record(&event, format_args!("the content of emit {cloud_type}"), location);
        let key = event.key();
        self.cell.check_key(&key, &cloud_type, location);
        let asked = Asked { kind: OpKind::Emit, name: &cloud_type, input: Some(&content), location };
        let (position, recorded) = self.cell.ask(&asked);
        if recorded.is_none() {
            let event = self.cell.envelope(position, E::topic(), key, &cloud_type, content);
            self.cell.emit(position, Box::new(event));
        }
    }
}
