#![doc = include_str!("../README.md")]
// Data flows one way: clock → schedule → queue → worker → sandbox → run → store → audit. A module
// never reaches back up.
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        reason = "a test stops at the first surprise"
    )
)]

mod audit;
mod builder;
#[cfg(feature = "builtins")]
mod builtins;
mod capability;
mod clock;
#[cfg(feature = "config")]
mod config;
mod doctor;
mod engine;
mod error;
mod event;
mod failpoint;
mod grant;
pub mod guide;
mod ids;
mod json;
mod limits;
mod membership;
mod metrics;
mod mutex;
mod observation;
mod plugin_error;
#[cfg(feature = "postgres")]
pub mod postgres;
mod queue;
mod run;
#[cfg(feature = "wasm")]
mod sandbox;
mod schedule;
#[cfg(feature = "testing")]
mod statement_steps;
mod store;
#[cfg(feature = "testing")]
pub mod testing;
mod text;
mod time;
mod verger;
mod wall_clock;
mod worker;
mod worker_settings;
mod worker_state;
mod written_grant;

pub use audit::{AuditFilter, AuditRow, ChainError, Verified};
pub use builder::Builder;
#[cfg(feature = "builtins")]
pub use builtins::{
    BackupExported, CacheEvicted, EmailDelivered, MembershipsReconciled, Vacuumed,
    WebhookEventsReconciled, built_in_components,
};
#[cfg(feature = "http")]
pub use capability::Http;
#[cfg(feature = "mailer")]
pub use capability::Mailer;
#[cfg(any(feature = "http", feature = "mailer"))]
pub use capability::Secret;
pub use capability::{CapabilityCall, InvalidCapability};
pub use clock::{Clock, SystemClock};
#[cfg(feature = "config")]
pub use config::{Change, ChangeKind, Config, ConfigError, Position, Problem};
pub use doctor::{CacheFacts, Diagnosis, Doctor, Facts, Finding, Fix, Fixed, Severity, TableFacts};
pub use engine::{AttemptOutcome, AttemptReport, LoopError, TableChange, TickLoop, TickReport};
pub use error::{AuditError, Error, OpenError, PerformError};
pub use event::{
    Event, EventFailure, EventItem, EventJob, EventKind, EventPosition, Events, LifecycleEvent,
    Subscription,
};
pub use grant::{Grant, Withheld};
pub use ids::{JobId, Token};
pub use limits::Limits;
pub use membership::normalized_membership_state;
pub use metrics::{Histogram, Metrics, WorkerMetrics};
pub use observation::{Compiled, Described, Observation, ObservedLine};
pub use plugin_error::PluginError;
pub use queue::{
    ArgsTextError, Attempted, Backoff, BulkMode, BulkPart, BulkReport, BulkVerb, EnqueueError,
    Enqueued, FilterError, HistorySpan, InexactNumber, Job, JobEdit, JobFilter, JobLog, JobSearch,
    JobState, JobTime, LoggedLine, NewJob, Queue, QueueError, QueueRow, Retention, Skipped,
    parse_args,
};
pub use run::{AttemptError, RowChange};
#[cfg(feature = "wasm")]
pub use sandbox::CompileCache;
#[cfg(feature = "compile")]
pub use sandbox::{CompiledComponent, compile_component};
pub use schedule::{
    ClockChange, Expression, ExpressionError, FieldName, FireOutcome, FireRow, Fired, Missed,
    Overlap, Reason, Schedule, ScheduleError, ScheduleRow, SlotOutcome, Upcoming, Zone, ZoneError,
    parse_zone, upcoming,
};
pub use store::{Durability, Key, MigrationError, StoreError, StoreErrorKind, Unreadable};
pub use time::Timestamp;
pub use verger::{DueReport, Performance, Verger};
#[cfg(feature = "wasm")]
pub use worker::{Ask, Consent, ConsentState, GrantDecision, GrantRow, PluginBinding, PluginInfo};
pub use worker_settings::SettingsError;
pub use written_grant::WrittenGrant;

/// The connection library that the app shares with Verger: `enqueue_in` takes its `Transaction`.
pub use rusqlite;
/// The guest SDK: the trait that native workers implement, and its types.
pub use verger_worker;
pub use verger_worker::{AuditEvent, Manifest, Outcome, Worker};
