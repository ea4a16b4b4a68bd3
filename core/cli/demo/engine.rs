//! Verger, on the store that the demo lives in.

use anyhow::Result;
use verger::{
    AuditFilter, AuditRow, ChainError, ScheduleRow, TickReport, Timestamp, Verger, Verified,
};

pub(crate) enum Engine {
    Sqlite(Verger),
    #[cfg(feature = "postgres")]
    Postgres(verger::postgres::Verger),
}

/// What either does under the same name.
macro_rules! either {
    ($engine:expr, $verger:ident => $call:expr) => {
        match $engine {
            Engine::Sqlite($verger) => $call,
            #[cfg(feature = "postgres")]
            Engine::Postgres($verger) => $call,
        }
    };
}

impl Engine {
    pub(crate) fn tick(&self, now: Timestamp) -> Result<TickReport, verger::Error> {
        either!(self, verger => verger.tick(now))
    }

    pub(crate) fn verify_audit(&self) -> Result<Verified, ChainError> {
        either!(self, verger => verger.verify_audit())
    }

    /// The newest events, newest first.
    pub(crate) fn last_events(&self, limit: u32) -> Result<Vec<AuditRow>, verger::Error> {
        either!(self, verger => verger.audit_log(&AuditFilter::default(), limit))
    }

    pub(crate) fn schedules(&self) -> Result<Vec<ScheduleRow>, verger::Error> {
        either!(self, verger => verger.schedules())
    }
}
