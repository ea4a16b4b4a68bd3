//! What an attempt needs before its worker is called: the args, the grant, a connection, the task.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;
use verger_worker::{Args, JobInfo, Manifest, Scope, Slot, code};

use super::failure::{Failure, Next};
use crate::audit::{Stamp, Who};
use crate::engine::executor::Executor;
use crate::grant::Effective;
use crate::plugin_error::PluginError;
use crate::queue::{self, Claimed, PerformedBy};
use crate::run::{AttemptError, Claim, Interrupt, Task, Unmigrated, scope_args};
use crate::store::{StopSignal, WorkConnection};
use crate::time::{Timestamp, instant_after};
use crate::worker::{self, Registered};

/// A job whose worker is there and whose args fit it.
pub(crate) struct Preparation {
    pub(crate) worker: Arc<Registered>,
    pub(crate) args: Args,
    scope: Option<Scope>,
    scope_args: Vec<(String, Json)>,
    pub(crate) grant: Arc<Effective>,
    pub(crate) name: String,
    pub(crate) performed_by: Arc<PerformedBy>,
}

/// Checks the job again, just before the attempt, because a row inserted by hand passed no other
/// check.
pub(crate) fn prepare(worker: &Arc<Registered>, claimed: &Claimed) -> Result<Preparation, Failure> {
    let args = worker::parse_args(&claimed.args).map_err(|error| Failure::of_args(&error))?;
    queue::check_numbers(&claimed.args).map_err(|error| Failure::of_args(&error))?;
    prepare_with(worker, &args, Some(claimed.args_version))
}

/// `version` is the version of the args, when it may differ from the worker's.
pub(super) fn prepare_with(
    worker: &Arc<Registered>,
    args: &Args,
    version: Option<u32>,
) -> Result<Preparation, Failure> {
    // What the worker itself says now counts, not what was known of it.
    let unusable = |error: PluginError| AttemptError::new("plugin", error.to_string());
    worker.prepare().map_err(unusable)?;
    let manifest: &Manifest = worker.manifest().map_err(unusable)?;
    let migrated = match version.map(|version| (version, version.cmp(&manifest.args_version))) {
        Some((version, Ordering::Greater)) => return Err(Failure::too_new(version, manifest)),
        Some((version, Ordering::Less)) => Some(migrate(worker, version, args)?),
        Some((_, Ordering::Equal)) | None => None,
    };
    let args = migrated.as_ref().unwrap_or(args);
    let checked = worker.check_args(manifest, args, manifest.args_version);
    checked.map_err(|error| Failure::of_args(&error))?;
    // The app said for whom the job runs when it enqueued it. The manifest has no say in it.
    let scope = Scope::of(args);
    let scope_args = scope_args(scope.as_ref(), args.as_map());
    let args = manifest.fill_in(args);
    Ok(Preparation {
        worker: Arc::clone(worker),
        scope,
        scope_args,
        grant: Arc::new(Effective::of(manifest, &worker.grant, &args)),
        args,
        name: manifest.name.clone(),
        performed_by: Arc::clone(worker.performed_by().map_err(unusable)?),
    })
}

/// The args with which a job of this worker is performed.
pub(crate) fn fit_args(
    worker: &Arc<Registered>,
    args: &Args,
    version: u32,
) -> Result<Args, AttemptError> {
    prepare_with(worker, args, Some(version))
        .map(|prepared| prepared.args)
        .map_err(|failure| failure.error)
}

/// Brings args of an earlier version into the present form. The row keeps them as they were
/// written, so that the version before can be restored, and can perform the job too.
fn migrate(worker: &Registered, from: u32, args: &Args) -> Result<Args, Failure> {
    let refused = match worker.migrate_args(from, args) {
        Ok(migrated) => return Ok(migrated),
        Err(Unmigrated::Refused(error)) => Failure { error, next: Next::Discard },
        Err(Unmigrated::Failed(error)) => error.into(),
    };
    Err(refused)
}

impl Preparation {
    /// How long the worker may take.
    pub(crate) fn time(&self) -> Duration {
        self.grant.limits.time
    }

    /// Whether the job is confined to a tenant.
    pub(crate) fn is_confined(&self) -> bool {
        self.tenant().is_some()
    }

    fn tenant(&self) -> Option<&str> {
        let tenant = self.scope.as_ref().and_then(Scope::organization_id);
        tenant.filter(|_| self.grant.tenant_column().is_some())
    }

    /// The connection for this job. It confines the worker when the job has a tenant and the grant
    /// names the column that holds it.
    pub(super) fn connection(
        &self,
        executor: &mut Executor,
    ) -> Result<WorkConnection, AttemptError> {
        let connection = match self.tenant() {
            Some(tenant) => executor.take_confined(&self.grant, tenant),
            None => executor.take(),
        };
        connection.map_err(|error| AttemptError::new(code::STORE, error.to_string()))
    }

    pub(crate) fn task(
        &self,
        claimed: &Claimed,
        claim: Claim,
        now: Timestamp,
        interrupt: &Interrupt,
    ) -> Task {
        let info = JobInfo {
            id: u64::try_from(claimed.id.number()).ok(),
            attempt: claimed.attempt,
            max_attempts: claimed.max_attempts,
            deadline: (now + self.grant.limits.time).as_millis(),
            scheduled: claimed.schedule.as_ref().zip(claimed.slot).map(|(schedule, at)| Slot {
                schedule: schedule.clone(),
                at,
                missed: claimed.missed,
                after: claimed.slot_after.filter(|after| *after < at),
                zone: claimed.zone.clone().unwrap_or_else(|| "UTC".to_string()),
            }),
        };
        let mut task = self.task_of(Some(claim), info, interrupt);
        task.queue.clone_from(&claimed.queue);
        task
    }

    pub(crate) fn task_of(
        &self,
        claim: Option<Claim>,
        info: JobInfo,
        interrupt: &Interrupt,
    ) -> Task {
        let stamp = Stamp {
            who: self.scope.as_ref().map(Who::of).unwrap_or_default(),
            worker: Some(self.name.clone()),
            worker_version: Some(self.performed_by.version.clone()),
            job: claim.map(|claim| claim.id.number()),
            attempt: claim.map(|claim| claim.attempt),
        };
        Task {
            worker: self.name.clone(),
            stamp,
            scope: self.scope.clone(),
            scope_args: self.scope_args.clone(),
            grant: Arc::clone(&self.grant),
            claim,
            performed_by: Arc::clone(&self.performed_by),
            queue: String::new(),
            info,
            stop_signal: StopSignal::new(instant_after(self.grant.limits.time), interrupt.flag()),
            interrupt: interrupt.clone(),
        }
    }
}
