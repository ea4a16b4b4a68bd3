//! Recurring rules: when they are due, what a due slot becomes, and the ledger that says so.

mod books;
mod correction;
mod definition;
mod explain;
mod expression;
mod fire;
mod ledger;
mod registration;
mod rows;
mod slots;

pub use definition::{Missed, Overlap, Schedule, ScheduleError};
pub use expression::{
    ClockChange, Expression, ExpressionError, FieldName, Upcoming, Zone, ZoneError, parse_zone,
    upcoming,
};
pub use fire::{FireOutcome, Fired};
pub(crate) use fire::{Prepared, new_job};
pub use ledger::{FireRow, Reason, SlotOutcome};
pub use rows::ScheduleRow;
