//! Writing a `reconciled` event and the delivery's new state, for each orphan that found its
//! delivery.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::slice::from_ref;

use verger_worker::code;
use verger_worker::prelude::*;

use crate::{ACTION, EVENT_PREFIX, TOPIC, sql};

/// The statements of a job, and for whom it runs.
pub(crate) struct Linker<'a> {
    append: String,
    project: String,
    organization: Option<&'a str>,
    now: i64,
}

/// An orphan as it was read.
pub(crate) struct Orphan {
    pub(crate) id: Value,
    pub(crate) organization_id: Value,
    pub(crate) kind: Value,
    pub(crate) occurred_at: Value,
    pub(crate) provider: String,
    pub(crate) message_id: String,
    pub(crate) delivery_id: Value,
    /// The idempotency key of the event that reconciles it.
    pub(crate) key: String,
}

/// The parameters of both statements, one set of each for every link.
#[derive(Default)]
pub(crate) struct Links {
    events: Vec<Vec<Value>>,
    deliveries: Vec<Vec<Value>>,
}

/// How many links succeeded, and how many were refused.
#[derive(Default)]
pub(crate) struct Linked {
    pub(crate) linked: u64,
    pub(crate) errors: u64,
}

impl<'a> Linker<'a> {
    pub(crate) fn new(
        events: &Ident,
        deliveries: &Ident,
        times: TimeFormat,
        organization: Option<&'a str>,
        now: i64,
    ) -> Self {
        Self {
            append: sql::append(events, times),
            project: sql::project(deliveries, times),
            organization,
            now,
        }
    }

    /// Adds an orphan that found its delivery.
    pub(crate) fn add(&self, links: &mut Links, orphan: Orphan) {
        let metadata = json!({
            "orphan_id": orphan.id.as_id(),
            "type": orphan.kind.as_id(),
            "provider": orphan.provider,
            "provider_message_id": orphan.message_id,
        });
        let id = match orphan.id {
            // SQLite gives the next one.
            Value::Integer(_) => Value::Null,
            Value::Blob(_) => Value::Blob(orphan.key.clone().into_bytes()),
            _ => Value::from(&orphan.key),
        };
        links.events.push(params![
            orphan.key,
            orphan.organization_id.clone(),
            orphan.delivery_id.clone(),
            orphan.provider,
            serde_json::to_string(&metadata).unwrap_or_default(),
            self.now,
            id,
        ]);
        links.deliveries.push(params![
            orphan.delivery_id,
            orphan.organization_id,
            orphan.kind,
            orphan.occurred_at,
            self.now
        ]);
    }

    /// Links what it can, publishes and audits it.
    pub(crate) fn link(&self, job: &Context<'_>, links: &Links) -> Result<Linked, HostError> {
        if links.events.is_empty() {
            return Ok(Linked::default());
        }
        let mut audit = Vec::new();
        let linked: Vec<usize> = match self.apply(job, &links.events, &links.deliveries)? {
            Ok(()) => (0..links.events.len()).collect(),
            // One was refused, and the savepoint undid all. So each is done by itself now.
            Err(_) => self.one_by_one(job, links, &mut audit)?,
        };
        let errors = audit.len() as u64;
        self.announce(job, links, &linked)?;
        self.count_by_tenant(links, &linked, &mut audit);
        job.audit_batch(&audit)?;
        Ok(Linked { linked: linked.len() as u64, errors })
    }

    /// Runs both statements over some links, all or nothing. The outer error ends the attempt. The
    /// inner error is the first refusal.
    fn apply(
        &self,
        job: &Context<'_>,
        events: &[Vec<Value>],
        deliveries: &[Vec<Value>],
    ) -> Result<Result<(), HostError>, HostError> {
        let savepoint = job.savepoint()?;
        let mut refused = first_refusal(job.execute_many(&self.append, events)?)?;
        if refused.is_none() {
            refused = first_refusal(job.execute_many(&self.project, deliveries)?)?;
        }
        match refused {
            None => savepoint.release().map(Ok),
            Some(error) => savepoint.rollback().map(|()| Err(error)),
        }
    }

    /// The indexes of the links that succeeded. The others become audit events.
    fn one_by_one(
        &self,
        job: &Context<'_>,
        links: &Links,
        audit: &mut Vec<AuditEvent>,
    ) -> Result<Vec<usize>, HostError> {
        let mut linked = Vec::new();
        for (place, (event, delivery)) in links.events.iter().zip(&links.deliveries).enumerate() {
            match self.apply(job, from_ref(event), from_ref(delivery))? {
                Ok(()) => linked.push(place),
                Err(error) => audit.push(
                    AuditEvent::error(ACTION)
                        .organization(self.tenant(event).map(Cow::into_owned))
                        .subject("webhook_event", orphan_id(event))
                        .cause(&error),
                ),
            }
        }
        Ok(linked)
    }

    fn announce(
        &self,
        job: &Context<'_>,
        links: &Links,
        linked: &[usize],
    ) -> Result<(), HostError> {
        for &place in linked {
            let (event, delivery) = (&links.events[place], &links.deliveries[place]);
            let message = json!({
                "organization_id": self.tenant(event),
                "delivery_id": delivery[0].as_id(),
                "event_id": orphan_id(event),
                "reconciled_event_id": event[0].as_id(),
                "type": delivery[2].as_id(),
            });
            job.publish(TOPIC, &message)?;
        }
        Ok(())
    }

    fn count_by_tenant(&self, links: &Links, linked: &[usize], audit: &mut Vec<AuditEvent>) {
        let mut counts: BTreeMap<Option<Cow<'_, str>>, u64> = BTreeMap::new();
        for &place in linked {
            *counts.entry(self.tenant(&links.events[place])).or_default() += 1;
        }
        for (tenant, count) in counts {
            audit.push(
                AuditEvent::success(ACTION)
                    .organization(tenant.map(Cow::into_owned))
                    .metadata(json!({ "linked": count })),
            );
        }
    }

    fn tenant<'b>(&'b self, event: &'b [Value]) -> Option<Cow<'b, str>> {
        self.organization.map(Cow::Borrowed).or_else(|| event[1].as_id())
    }
}

/// The orphan's id, taken from the id of the event that reconciles it.
fn orphan_id(event: &[Value]) -> String {
    let id = event[0].as_id().unwrap_or_default();
    id.strip_prefix(EVENT_PREFIX).unwrap_or_default().to_string()
}

/// The first set that was refused because of itself. If a set changed nothing, a trigger of the app
/// refused it silently.
fn first_refusal(results: Vec<Result<u64, HostError>>) -> Result<Option<HostError>, HostError> {
    let mut refused = None;
    for result in results {
        let error = match result {
            Ok(0) => HostError::new(code::CONSTRAINT, "the statement changed no row"),
            Ok(_) => continue,
            Err(error) if error.concerns_one_row() => error,
            Err(error) => return Err(error),
        };
        refused.get_or_insert(error);
    }
    Ok(refused)
}
