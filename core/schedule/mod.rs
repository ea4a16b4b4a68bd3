//! Recurring rules: when they are due, what a due slot becomes, and the ledger that says so.

mod books;
mod correction;
mod decide;
mod definition;
mod explain;
mod expression;
mod fire;
mod ledger;
mod registration;
mod rows;
mod slots;

#[cfg(feature = "postgres")]
pub(crate) use decide::{SlotBooks, decide_due, decide_missed, free_instant, slot_of};
pub use definition::{Missed, Overlap, Schedule, ScheduleError};
pub use expression::{
    ClockChange, Expression, ExpressionError, FieldName, Upcoming, Zone, ZoneError, parse_zone,
    upcoming,
};
pub use fire::{FireOutcome, Fired};
pub(crate) use fire::{Prepared, new_job};
#[cfg(feature = "postgres")]
pub(crate) use ledger::Line;
pub use ledger::{FireRow, Reason, SlotOutcome};
#[cfg(feature = "postgres")]
pub(crate) use registration::row_of;
pub use rows::ScheduleRow;
#[cfg(feature = "postgres")]
pub(crate) use slots::Rule;
