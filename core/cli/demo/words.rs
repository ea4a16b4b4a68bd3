//! Audit events as sentences.

use serde_json::Value as Json;
use verger::AuditRow;

use crate::audit::what;
use crate::output::counted;

/// An event as a sentence, without its time. `organization` is the name of the tenant it concerns.
pub(crate) fn sentence(event: &AuditRow, organization: Option<&str>) -> String {
    let of = organization
        .or(event.organization_id.as_deref())
        .map(|name| format!(" of {name}"))
        .unwrap_or_default();
    let subject = event.subject_id.as_deref().unwrap_or("?");
    let told = |key: &str| {
        let metadata: Json =
            event.metadata.as_deref().and_then(|text| serde_json::from_str(text).ok())?;
        metadata.get(key).and_then(Json::as_u64)
    };
    match (event.action.as_str(), event.outcome.as_str()) {
        ("membership.updated", "success") => {
            format!("membership {subject}{of} ran out: {}", what(event))
        }
        ("organization_invitation.deleted", "success") => {
            let deleted = counted(told("deleted").unwrap_or(0), "invitation");
            format!(
                "{deleted}{of} deleted, expired for more than {} days",
                told("retention_days").unwrap_or(0)
            )
        }
        ("webhook_event.reconciled", "success") => match told("linked").unwrap_or(0) {
            1 => format!("1 webhook event{of} linked to its delivery"),
            linked => {
                format!("{}{of} linked to their deliveries", counted(linked, "webhook event"))
            }
        },
        (action, outcome) => {
            format!("{action} ended with {outcome}{of}, {subject}: {}", what(event))
        }
    }
}
