//! Recurring rules: when they are due, what a due slot becomes, and the ledger that says so.

mod correction;
mod definition;
mod explain;
mod expression;
mod fire;
mod ledger;
mod registration;
mod rows;
mod slots;

pub(crate) use correction::{bring_back, misled};
pub use definition::{Missed, Overlap, Schedule, ScheduleError};
pub(crate) use explain::explain;
pub use expression::{
    ClockChange, Expression, ExpressionError, FieldName, Upcoming, ZoneError, parse_zone, upcoming,
};
pub use fire::{FireOutcome, Fired};
pub(crate) use fire::{Prepared, fire, fire_at_start, new_job, run_now};
pub(crate) use ledger::fires;
pub use ledger::{FireRow, Reason, SlotOutcome};
pub(crate) use registration::{dropped, remove, retire, set_paused, upsert};
pub use rows::ScheduleRow;
pub(crate) use rows::{at_start, due, get, list, next_fire};
