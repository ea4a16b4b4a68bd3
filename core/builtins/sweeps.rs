//! A typed way to call each built-in worker directly, without queue or tick.

use serde_json::{Value as Json, json};

use crate::error::PerformError;
use crate::verger::Verger;

/// What [`Verger::reconcile_memberships`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MembershipsReconciled {
    /// Stale memberships found.
    pub scanned: u64,
    /// Memberships that are expired now.
    pub updated: u64,
    /// Memberships that could not be updated. The audit log says why.
    pub errors: u64,
}

/// What [`Verger::reconcile_webhook_events`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WebhookEventsReconciled {
    /// Orphaned events found.
    pub scanned: u64,
    /// Events that are linked to their delivery now.
    pub linked: u64,
}

impl Verger {
    /// Deletes the invitations of this table that were not accepted and expired more than
    /// `retention_days` days ago, for all tenants, and returns how many. It calls the worker
    /// `cleanup-expired-invitations` directly.
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

    /// Deletes rows of the audit log that were written more than `retention_days` days ago, and
    /// returns how many. `None` keeps them for ever. What stays still verifies. It calls the worker
    /// `cleanup-audit` directly.
    ///
    /// # Errors
    /// [`PerformError`] for 0 days.
    pub fn cleanup_audit(&self, retention_days: Option<u32>) -> Result<u64, PerformError> {
        self.built_in("cleanup-audit", json!({ "retention_days": retention_days }), |result| {
            result("deleted")
        })
    }

    /// Sets the memberships of this table that are active or suspended past their expiry to
    /// `expired`, for all tenants. It calls the worker `reconcile-memberships` directly.
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

    /// Links the orphaned webhook events of this table to their deliveries, for one tenant or for
    /// all. It calls the worker `reconcile-webhook-events` directly.
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

    /// Deletes the tokens of this table that are older than their context allows, and returns how
    /// many: `confirm` 48 h, `reset_password` 1 h, `magic_link` 15 min, `session` 60 days,
    /// `api_refresh` 30 days. Tokens of any other context stay. It calls the worker
    /// `cleanup-tokens` directly, whose arg `max_age_seconds` sets other ages.
    ///
    /// # Errors
    /// [`PerformError`] for a table that is not there.
    pub fn cleanup_tokens(&self, table: &str) -> Result<u64, PerformError> {
        self.built_in("cleanup-tokens", json!({ "table": table }), |result| result("deleted"))
    }

    /// Deletes the webhook events of this table that were taken in more than 14 days ago, or given
    /// up more than 90 days ago, and returns how many. Events that failed stay. It calls the worker
    /// `prune-webhook-events` directly. That worker's args set other times, and name the table that
    /// lets events of an append-only table be deleted.
    ///
    /// # Errors
    /// [`PerformError`] for a table that is not there.
    pub fn prune_webhook_events(&self, table: &str) -> Result<u64, PerformError> {
        self.built_in("prune-webhook-events", json!({ "table": table }), |result| result("deleted"))
    }

    /// Calls a built-in worker whose result has counts.
    pub(super) fn built_in<T>(
        &self,
        worker: &str,
        args: Json,
        read: impl FnOnce(&dyn Fn(&str) -> Option<u64>) -> Option<T>,
    ) -> Result<T, PerformError> {
        self.called(worker, args, |result| read(&|name| result.get(name).and_then(Json::as_u64)))
    }

    /// Calls a built-in worker and reads its result.
    pub(super) fn called<T>(
        &self,
        worker: &str,
        args: Json,
        read: impl FnOnce(&Json) -> Option<T>,
    ) -> Result<T, PerformError> {
        let performed = self.perform_now(worker, args)?;
        performed.result().and_then(read).ok_or_else(|| PerformError::Unexpected {
            worker: worker.to_string(),
            found: format!("{:?}", performed.outcome),
        })
    }
}
