//! The built-in workers: the components, those that are part of the library, and a typed way to
//! call each.

mod export_backup;
mod sweeps;
mod upkeep;
mod vacuum_step;

use verger_worker::Worker;

pub use sweeps::{MembershipsReconciled, WebhookEventsReconciled};
pub use upkeep::{BackupExported, CacheEvicted, EmailDelivered, Vacuumed};

/// The components, by the names of their workers. `plugins/rebuild` makes them from `plugins/`.
pub(crate) const PREBUILT: [(&str, &[u8]); 8] = [
    ("cleanup-audit", include_bytes!("../../plugins/prebuilt/cleanup-audit.wasm")),
    (
        "cleanup-expired-invitations",
        include_bytes!("../../plugins/prebuilt/cleanup-expired-invitations.wasm"),
    ),
    ("cleanup-tokens", include_bytes!("../../plugins/prebuilt/cleanup-tokens.wasm")),
    ("deliver-email", include_bytes!("../../plugins/prebuilt/deliver-email.wasm")),
    ("evict-cache", include_bytes!("../../plugins/prebuilt/evict-cache.wasm")),
    ("prune-webhook-events", include_bytes!("../../plugins/prebuilt/prune-webhook-events.wasm")),
    ("reconcile-memberships", include_bytes!("../../plugins/prebuilt/reconcile-memberships.wasm")),
    (
        "reconcile-webhook-events",
        include_bytes!("../../plugins/prebuilt/reconcile-webhook-events.wasm"),
    ),
];

/// The components of the built-in workers, by the workers' names. An app uses them to compile
/// ahead.
pub fn built_in_components() -> impl Iterator<Item = (&'static str, &'static [u8])> {
    PREBUILT.into_iter()
}

/// The built-in workers that ask for what only the engine can do.
pub(crate) fn native() -> [Box<dyn Worker + Send + Sync>; 2] {
    [Box::new(export_backup::ExportBackup), Box::new(vacuum_step::VacuumStep)]
}
