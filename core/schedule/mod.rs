//! Recurring rules: when they are due, what a due slot becomes, and the ledger that says so.

mod definition;
mod explain;
mod expression;
mod fire;
mod rows;
mod slots;

pub use definition::{Missed, Overlap, Schedule, ScheduleError};
pub(crate) use explain::explain;
pub use expression::{
    ClockChange, Expression, ExpressionError, FieldName, Upcoming, ZoneError, parse_zone, upcoming,
};
pub use fire::{FireOutcome, Fired};
pub(crate) use fire::{Prepared, fire, fire_at_start, new_job, run_now};
pub use rows::{FireRow, ScheduleRow};
pub(crate) use rows::{
    at_start, bring_back, due, fires, get, list, misled, next_fire, remove, set_paused, upsert,
};
