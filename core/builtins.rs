//! The built-in workers: their components, and a typed way to call each.

use serde_json::{Value as Json, json};

use crate::error::PerformError;
use crate::verger::Verger;

/// The components, by the names of their workers. `plugins/rebuild` makes them from `plugins/`.
pub(crate) const PREBUILT: [(&str, &[u8]); 4] = [
    ("cleanup-audit", include_bytes!("../plugins/prebuilt/cleanup-audit.wasm")),
    (
        "cleanup-expired-invitations",
        include_bytes!("../plugins/prebuilt/cleanup-expired-invitations.wasm"),
    ),
    ("reconcile-memberships", include_bytes!("../plugins/prebuilt/reconcile-memberships.wasm")),
    (
        "reconcile-webhook-events",
        include_bytes!("../plugins/prebuilt/reconcile-webhook-events.wasm"),
    ),
];

/// What [`Verger::reconcile_memberships`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MembershipsReconciled {
    /// Stale memberships found.
    pub scanned: u64,
    /// Those that are expired now.
    pub updated: u64,
    /// Those that could not be updated; the audit log says why.
    pub errors: u64,
}

/// What [`Verger::reconcile_webhook_events`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WebhookEventsReconciled {
    /// Orphaned events found.
    pub scanned: u64,
    /// Those that are linked to their delivery now.
    pub linked: u64,
}

impl Verger {
    /// Deletes the invitations of this table that were not accepted and expired more than
    /// `retention_days` days ago, of all tenants; how many. The worker
    /// `cleanup-expired-invitations`, called directly.
    ///
    /// # Errors
    /// [`PerformError`] for a table that is not there or `retention_days` that are not 1 or more.
    pub fn cleanup_expired_invitations(
        &self,
        table: &str,
        retention_days: u32,
    ) -> Result<u64, PerformError> {
        let args = json!({"organization_id": null, "actor_id": null, "table": table, "retention_days": retention_days});
        self.built_in("cleanup-expired-invitations", args, |result| result("deleted"))
    }

    /// Deletes rows of the audit log that were written more than `retention_days` days ago; `None`
    /// keeps them for ever. How many went; what stays still verifies. The worker `cleanup-audit`,
    /// called directly.
    ///
    /// # Errors
    /// [`PerformError`] for 0 days.
    pub fn cleanup_audit(&self, retention_days: Option<u32>) -> Result<u64, PerformError> {
        self.built_in("cleanup-audit", json!({ "retention_days": retention_days }), |result| {
            result("deleted")
        })
    }

    /// Sets the memberships of this table that are active or suspended past their expiry to
    /// `expired`, of all tenants. The worker `reconcile-memberships`, called directly.
    ///
    /// # Errors
    /// [`PerformError`] for a table that is not there.
    pub fn reconcile_memberships(
        &self,
        table: &str,
    ) -> Result<MembershipsReconciled, PerformError> {
        let args = json!({"organization_id": null, "actor_id": null, "table": table});
        self.built_in("reconcile-memberships", args, |result| {
            Some(MembershipsReconciled {
                scanned: result("scanned")?,
                updated: result("updated")?,
                errors: result("errors")?,
            })
        })
    }

    /// Links the orphaned webhook events of this table to their deliveries: of one tenant, or of
    /// all. The worker `reconcile-webhook-events`, called directly.
    ///
    /// # Errors
    /// [`PerformError`] for a table that is not there or a `max_age_minutes` of 0.
    pub fn reconcile_webhook_events(
        &self,
        table: &str,
        organization_id: Option<&str>,
        max_age_minutes: u32,
    ) -> Result<WebhookEventsReconciled, PerformError> {
        let args = json!({"organization_id": organization_id, "actor_id": null, "table": table, "max_age_minutes": max_age_minutes});
        self.built_in("reconcile-webhook-events", args, |result| {
            Some(WebhookEventsReconciled { scanned: result("scanned")?, linked: result("linked")? })
        })
    }

    fn built_in<T>(
        &self,
        worker: &str,
        args: Json,
        read: impl FnOnce(&dyn Fn(&str) -> Option<u64>) -> Option<T>,
    ) -> Result<T, PerformError> {
        let performed = self.perform_now(worker, args)?;
        let field = |name: &str| {
            performed.result().and_then(|result| result.get(name)).and_then(Json::as_u64)
        };
        read(&field).ok_or_else(|| PerformError::Unexpected {
            worker: worker.to_string(),
            found: format!("{:?}", performed.outcome),
        })
    }
}
