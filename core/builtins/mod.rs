//! The built-in workers: the components, those that are part of the library, and a typed way to
//! call each.

mod export_backup;
mod sweeps;
mod upkeep;
mod vacuum_step;

use verger_worker::Worker;

use crate::sandbox::PREBUILT;

pub use sweeps::{MembershipsReconciled, WebhookEventsReconciled};
pub use upkeep::{BackupExported, CacheEvicted, EmailDelivered, Vacuumed};

/// The components of the built-in workers, by the workers' names. An app uses them to compile
/// ahead.
pub fn built_in_components() -> impl Iterator<Item = (&'static str, &'static [u8])> {
    PREBUILT.into_iter()
}

/// The built-in workers that ask for what only the engine can do.
pub(crate) fn native() -> [Box<dyn Worker + Send + Sync>; 2] {
    [Box::new(export_backup::ExportBackup), Box::new(vacuum_step::VacuumStep)]
}
