//! Jobs that a run puts into the queue, in its own transaction.

use std::sync::{OnceLock, Weak};
use std::time::Duration;

use serde_json::{Map, Value as Json};
use verger_worker::{Enqueued, HostError, NewJob as Asked, Scope, Verb, code};

use super::error::from_books;
use super::{Run, Task};
#[cfg(feature = "wasm")]
use crate::json;
use crate::limits::Limits;
use crate::queue::{EnqueueError, NewJob, Ready};
use crate::text::{beginning, reason};
use crate::time::Timestamp;

/// The keys of the args that say for whom a job runs. A job that has no organization may choose the
/// first.
const SCOPE_KEYS: [&str; 3] = ["organization_id", "actor_id", "impersonating_from"];

/// The longest name of a worker that an error repeats, in bytes.
const NAME_MAX_BYTES: usize = 128;

/// How much memory the args of one job may take, once they are read.
#[cfg(feature = "wasm")]
const UNFOLDED_MAX_BYTES: usize = 64 << 20;

/// Where a run's jobs go: it knows the workers, and tells the loop.
pub(crate) trait Workers: Send + Sync {
    /// Checks a job against its worker.
    fn ready(&self, job: NewJob) -> Result<Ready, EnqueueError>;

    /// Called when jobs were committed.
    fn enqueued(&self);
}

/// Where a run finds the workers, once everything is open.
#[derive(Default)]
pub(crate) struct WorkersLink(OnceLock<Weak<dyn Workers>>);

impl WorkersLink {
    /// Set once, when everything is open.
    pub(crate) fn set(&self, workers: Weak<dyn Workers>) {
        let _ = self.0.set(workers);
    }

    fn get(&self) -> Option<std::sync::Arc<dyn Workers>> {
        self.0.get().and_then(Weak::upgrade)
    }

    /// Tells that jobs were committed.
    pub(super) fn tell(&self) {
        if let Some(workers) = self.get() {
            workers.enqueued();
        }
    }
}

/// What a run has enqueued so far, committed or not, and whether some of it is not committed yet.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct EnqueueTally {
    jobs: u64,
    bytes: usize,
    is_waiting: bool,
}

impl Run {
    /// The jobs that a component asks for: their args and options are JSON text.
    #[cfg(feature = "wasm")]
    pub(crate) fn enqueue_texts(
        &self,
        jobs: Vec<(String, String, String)>,
    ) -> Result<Vec<Enqueued>, HostError> {
        // Counted first, so that too much is not even read.
        let bytes = bytes_of_texts(&jobs);
        self.has_room_for(jobs.len(), bytes)?;
        // One after the other, so that the parsed form of only one job is in memory, which is
        // larger than its text.
        let checked = jobs.into_iter().map(|(worker, args, options)| {
            let checked = parse(worker.as_str(), &args, &options);
            (checked.and_then(|job| self.check_job(&job)), worker)
        });
        self.insert_jobs(checked, bytes)
    }

    /// Inserts jobs, all or none.
    pub(crate) fn enqueue_jobs(&self, jobs: &[Asked]) -> Result<Vec<Enqueued>, HostError> {
        self.alive()?;
        let bytes = jobs.iter().map(Asked::bytes).fold(0, usize::saturating_add);
        self.has_room_for(jobs.len(), bytes)?;
        let checked = jobs.iter().map(|job| (self.check_job(job), job.worker().to_string()));
        self.insert_jobs(checked, bytes)
    }

    /// Inserts jobs once all of them are checked, each with the name of its worker.
    fn insert_jobs(
        &self,
        checked: impl Iterator<Item = (Result<Ready, HostError>, String)>,
        bytes: usize,
    ) -> Result<Vec<Enqueued>, HostError> {
        // Before the lock is taken, because a worker may have to be compiled to know its args.
        let ready = checked.enumerate().map(|(place, (checked, worker))| {
            checked.map_err(|error| at_place(error, place, &worker))
        });
        let ready = ready.collect::<Result<Vec<_>, HostError>>()?;
        let now = self.clock.now();
        if ready.is_empty() {
            return Ok(Vec::new());
        }
        self.begin()?;
        let enqueued = self.within_savepoint(|| {
            let inserted = self.connection.books(|books| {
                let mut enqueued = Vec::with_capacity(ready.len());
                for ready in &ready {
                    let job = books.insert_job(ready, now)?;
                    if !job.existing && self.services.hub.is_heard() {
                        // The event is recorded with the commit, or not at all.
                        books.record_event(now, &ready.event(job.id, now))?;
                    }
                    enqueued.push(job);
                }
                Ok(enqueued)
            });
            inserted.map_err(|error| from_books(&error))
        });
        let enqueued = enqueued.inspect_err(|error| self.notice_lost_transaction(error))?;
        let mut tally = self.enqueued.get();
        tally.add(ready.len(), bytes);
        self.enqueued.set(tally);
        let new = enqueued.iter().filter(|job| !job.existing).count() as u64;
        if self.dry && new > 0 {
            let key = ("verger_jobs".into(), Verb::Insert);
            *self.changes.borrow_mut().entry(key).or_default() += new;
        }
        Ok(enqueued
            .into_iter()
            .map(|job| Enqueued { id: job.id.number().unsigned_abs(), existing: job.existing })
            .collect())
    }

    /// Tells the loop after the run's transaction was committed.
    pub(super) fn tell_of_jobs(&self) {
        if self.take_enqueued() && !self.dry {
            self.services.workers.tell();
        }
    }

    /// Whether it has enqueued jobs that the loop was not told of. The caller tells the loop.
    pub(super) fn take_enqueued(&self) -> bool {
        let mut tally = self.enqueued.get();
        let is_waiting = tally.take_waiting();
        self.enqueued.set(tally);
        is_waiting
    }

    fn has_room_for(&self, jobs: usize, bytes: usize) -> Result<(), HostError> {
        self.enqueued.get().has_room(jobs, bytes, &self.task.grant.limits)
    }

    fn check_job(&self, job: &Asked) -> Result<Ready, HostError> {
        let Some(workers) = self.services.workers.get() else {
            return Err(HostError::new(code::STORE, "the app is closing: no job can be enqueued"));
        };
        check_asked(&self.task, &*workers, job, self.clock.now()).map_err(|error| {
            match error.code.as_str() {
                code::DENIED => self.denied(error.message),
                _ => error,
            }
        })
    }
}

impl EnqueueTally {
    /// Whether a run with these limits may enqueue so many more.
    pub(crate) fn has_room(
        &self,
        jobs: usize,
        bytes: usize,
        limits: &Limits,
    ) -> Result<(), HostError> {
        let jobs = self.jobs.saturating_add(jobs as u64);
        let bytes = self.bytes.saturating_add(bytes);
        if jobs > limits.jobs {
            let most = limits.jobs;
            return Err(over(format!("more than the {most} jobs this run may enqueue")));
        }
        if bytes > limits.job_bytes {
            let most = limits.job_bytes;
            return Err(over(format!("more than the {most} bytes of jobs this run may enqueue")));
        }
        Ok(())
    }

    /// Whether there are jobs that the loop was not told of. The caller tells the loop.
    pub(crate) fn take_waiting(&mut self) -> bool {
        std::mem::take(&mut self.is_waiting)
    }

    /// Counts jobs that were enqueued.
    pub(crate) fn add(&mut self, jobs: usize, bytes: usize) {
        self.jobs = self.jobs.saturating_add(jobs as u64);
        self.bytes = self.bytes.saturating_add(bytes);
        self.is_waiting = true;
    }
}

/// Checks a job that a run asks for.
pub(crate) fn check_asked(
    task: &Task,
    workers: &dyn Workers,
    job: &Asked,
    now: Timestamp,
) -> Result<Ready, HostError> {
    let worker = beginning(job.worker(), NAME_MAX_BYTES);
    task.grant
        .check_enqueue(worker, &task.worker)
        .map_err(|why| HostError::new(code::DENIED, why))?;
    let Json::Object(args) = job.args() else {
        return Err(invalid("the args are no JSON object"));
    };
    let args = pass_scope_on(task, args.clone())?;
    let job = with_options(NewJob::new(worker, Json::Object(args)), job.options(), now)?;
    workers.ready(job).map_err(|error| match error {
        EnqueueError::Store(error) => from_books(&error),
        refused => invalid(&reason(refused.to_string())),
    })
}

/// The args with the keys of the run's scope. Only a run that has no organization may name one.
fn pass_scope_on(task: &Task, mut args: Map<String, Json>) -> Result<Map<String, Json>, HostError> {
    let own = task
        .scope
        .as_ref()
        .map(|scope| [scope.organization_id(), scope.actor_id(), scope.impersonating_from()]);
    let own = own.unwrap_or_default();
    for (place, (key, own)) in SCOPE_KEYS.into_iter().zip(own).enumerate() {
        let asked = args.get(key).filter(|asked| !asked.is_null());
        let may_choose = place == 0 && own.is_none();
        if asked.is_some_and(|asked| !may_choose && text_of(asked).as_deref() != own) {
            let why = format!(
                "enqueue denied: the arg `{key}` names another than the scope of this job ({})",
                task.grant.worker()
            );
            return Err(HostError::new(code::DENIED, why));
        }
    }
    for (key, value) in &task.scope_args {
        if args.get(key).is_none_or(Json::is_null) {
            args.insert(key.clone(), value.clone());
        }
    }
    // A job of an organization has an actor, even if that is null.
    if args.contains_key(SCOPE_KEYS[0]) && !args.contains_key(SCOPE_KEYS[1]) {
        args.insert(SCOPE_KEYS[1].to_string(), Json::Null);
    }
    Ok(args)
}

/// The values of a job's args that make its scope, as written there.
pub(crate) fn scope_args(scope: Option<&Scope>, args: &Map<String, Json>) -> Vec<(String, Json)> {
    let keys = SCOPE_KEYS.into_iter().filter(|_| scope.is_some());
    keys.filter_map(|key| args.get(key).map(|value| (key.to_string(), value.clone()))).collect()
}

/// An id as a scope has it.
fn text_of(id: &Json) -> Option<String> {
    match id {
        Json::Null => None,
        Json::String(id) => Some(id.clone()),
        other => Some(other.to_string()),
    }
}

/// A job as a component sent it: its args and its options are JSON text.
#[cfg(feature = "wasm")]
pub(crate) fn bytes_of_texts(jobs: &[(String, String, String)]) -> usize {
    let bytes = jobs.iter().map(|(worker, args, options)| {
        worker.len().saturating_add(args.len()).saturating_add(options.len())
    });
    bytes.fold(0, usize::saturating_add)
}

#[cfg(feature = "wasm")]
pub(crate) fn parse(worker: &str, args: &str, options: &str) -> Result<Asked, HostError> {
    let args = read(args, "args")?;
    let options = match options.trim().is_empty() {
        true => Json::Object(Map::new()),
        false => read(options, "options")?,
    };
    match options {
        Json::Object(options) => Ok(Asked::with_options(worker.to_string(), args, options)),
        _ => Err(invalid("the options are no JSON object")),
    }
}

#[cfg(feature = "wasm")]
fn read(text: &str, what: &str) -> Result<Json, HostError> {
    json::parse(text, UNFOLDED_MAX_BYTES).map_err(|error| {
        // Too much memory is an error of data. Text that is no JSON is an error of syntax.
        match error.is_data() {
            true => over(format!("the {what} are too large: {error}")),
            false => invalid(&format!("the {what} are no JSON: {error}")),
        }
    })
}

/// Sets the options that a worker asks for.
fn with_options(
    mut job: NewJob,
    options: &Map<String, Json>,
    now: Timestamp,
) -> Result<NewJob, HostError> {
    let wants = |name: &str, what: &str| invalid(&format!("the option `{name}` must be {what}"));
    let whole = |name: &str, value: &Json| {
        value.as_u64().ok_or_else(|| wants(name, "a whole number, 0 or more"))
    };
    if options.contains_key("at") && options.contains_key("after_ms") {
        return Err(invalid("the options `at` and `after_ms` exclude each other"));
    }
    for (name, value) in options {
        job = match name.as_str() {
            _ if value.is_null() => job,
            "queue" => match value.as_str() {
                Some(queue) => job.queue(queue),
                None => return Err(wants(name, "a name")),
            },
            "priority" => match value.as_u64().and_then(|value| u8::try_from(value).ok()) {
                Some(priority) => job.priority(priority),
                None => return Err(wants(name, "a whole number from 0 to 9")),
            },
            "max_attempts" => match value.as_u64().and_then(|value| u32::try_from(value).ok()) {
                Some(attempts) => job.max_attempts(attempts),
                None => return Err(wants(name, "a whole number from 1 to 4294967295")),
            },
            "at" => match value.as_i64() {
                Some(at) => job.at(Timestamp::from_millis(at)),
                None => return Err(wants(name, "unix milliseconds, a whole number")),
            },
            "after_ms" => {
                let at = now + Duration::from_millis(whole(name, value)?);
                job.at(at)
            }
            "unique" => match value {
                Json::Bool(false) => job,
                Json::Bool(true) => job.unique(),
                Json::Array(keys) if !keys.is_empty() && keys.iter().all(Json::is_string) => {
                    job.unique_by(keys.iter().filter_map(Json::as_str))
                }
                _ => return Err(wants(name, "true, or a list of keys of the args")),
            },
            "unique_for_ms" => job,
            _ => {
                let known = "queue, priority, max_attempts, at, after_ms, unique, unique_for_ms";
                let name = beginning(name, NAME_MAX_BYTES);
                return Err(invalid(&format!("there is no option `{name}`; there are {known}")));
            }
        };
    }
    // After `unique`, because otherwise it would make all keys count.
    if let Some(period) = options.get("unique_for_ms").filter(|period| !period.is_null()) {
        job = job.unique_for(Duration::from_millis(whole("unique_for_ms", period)?));
    }
    Ok(job)
}

pub(crate) fn at_place(mut error: HostError, place: usize, worker: &str) -> HostError {
    let worker = beginning(worker, NAME_MAX_BYTES);
    error.message = format!("job {place}, for `{worker}`: {}; none was enqueued", error.message);
    error
}

fn invalid(why: &str) -> HostError {
    HostError::new(code::INVALID, why)
}

fn over(why: String) -> HostError {
    HostError::new(code::LIMIT, why)
}
