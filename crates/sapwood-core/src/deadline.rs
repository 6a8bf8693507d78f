//! Deadlines: when a promise settles at the latest (SEMANTICS D1).

use std::time::Duration;

use jiff::Timestamp;

use crate::clock::LATEST;

/// How long an invocation may undo what it did beyond its deadline, if its function says nothing else.
pub const GRACE: Duration = Duration::from_hours(1);

/// When a promise settles at the latest: a length of time that counts from its creation, or a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deadline {
    /// So long after the promise is created.
    After(Duration),
    /// At this time.
    At(Timestamp),
}

/// A deadline lies beyond what is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a deadline lies before {LATEST}; for a promise that may take for ever, give none")]
pub struct DeadlineTooFar;

impl Deadline {
    /// The time that it is for a promise that is created now, in microseconds.
    ///
    /// # Errors
    /// [`DeadlineTooFar`] from the year 9999 on.
    pub fn of_created(self, now: Timestamp) -> Result<Timestamp, DeadlineTooFar> {
        let time = match self {
            Self::After(length) => now.checked_add(length).map_err(|_| DeadlineTooFar)?,
            Self::At(time) => time,
        };
        if time >= LATEST {
            return Err(DeadlineTooFar);
        }
        // As every store holds it.
        Ok(Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time))
    }
}

impl From<Duration> for Deadline {
    fn from(length: Duration) -> Self {
        Self::After(length)
    }
}

impl From<Timestamp> for Deadline {
    fn from(time: Timestamp) -> Self {
        Self::At(time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// D1: what cannot be recorded is refused, and is not taken for something nearer.
    #[test]
    fn a_deadline_is_a_time_that_every_store_can_hold_or_none() {
        let now: Timestamp = "2026-11-28T12:00:00.000000999Z".parse().expect("a time");
        let of = |deadline: Deadline| deadline.of_created(now).map(|time| time.to_string());
        assert_eq!(of(Duration::from_secs(1).into()).expect("near"), "2026-11-28T12:00:01Z");
        assert_eq!(of(Duration::ZERO.into()).expect("now"), "2026-11-28T12:00:00Z");
        let past: Timestamp = "2020-01-01T00:00:00Z".parse().expect("a time");
        assert_eq!(of(past.into()).expect("it has passed"), "2020-01-01T00:00:00Z");
        for far in [Duration::MAX.into(), Duration::from_secs(253_370_764_800).into(), Deadline::At(LATEST)] {
            assert_eq!(of(far), Err(DeadlineTooFar));
        }
        assert_eq!(DeadlineTooFar.to_string().split(';').next(), Some("a deadline lies before 9999-01-01T00:00:00Z"));
    }
}
