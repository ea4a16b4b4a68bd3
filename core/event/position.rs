//! Where an event stands among those that are kept.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How many completions one row can tell of. The low bits of a position count them.
pub(crate) const PLACES: i64 = 1 << 16;

/// Where an event stands among those that are kept, in the order of their commits. Within one file
/// it grows, whatever process wrote. Keep the last one handled, and
/// [`events_since`](crate::Verger::events_since) goes on after it.
///
/// ```
/// use verger::EventPosition;
/// let kept = EventPosition::START.to_string();
/// assert_eq!(kept.parse(), Ok(EventPosition::START));
/// ```
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct EventPosition(i64);

impl EventPosition {
    /// Before every event.
    pub const START: Self = Self(0);

    /// The position with this number, as it was kept.
    #[must_use]
    pub const fn from_number(number: i64) -> Self {
        Self(number)
    }

    /// The number to keep.
    #[must_use]
    pub const fn number(self) -> i64 {
        self.0
    }

    /// The last event of this row.
    pub(super) const fn end_of(row: i64) -> Self {
        Self(row.saturating_mul(PLACES).saturating_add(PLACES - 1))
    }

    /// The event at this index in this row.
    pub(crate) const fn at(row: i64, place: i64) -> Self {
        Self(row.saturating_mul(PLACES).saturating_add(place))
    }

    /// The row that can hold the next event: this one, unless this was its last event.
    pub(crate) const fn row(self) -> i64 {
        self.0.div_euclid(PLACES)
    }
}

impl fmt::Display for EventPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for EventPosition {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}
