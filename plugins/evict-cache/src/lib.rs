//! Verger's built-in worker `evict-cache`: deletes the rows of a cache that were not used for long.
//! While the rest is larger than it may be, it deletes the longest unused rows.
//!
//! If a row names a file, the file is removed with the last row that names it, by the app's
//! function [`REMOVE_FILE`]. It is called after the row was deleted and before that is committed,
//! while nobody else can write. So the app cannot use the row and the file meanwhile. If the
//! function fails, the row stays. If the process ends between the two, the row is there again and
//! names a file that is gone. The next sweep then calls the function once more, so a missing file
//! must be no error.

use serde_json::Value as Json;
use verger_worker::code;
use verger_worker::prelude::*;

pub mod sql;

use sql::Columns;

/// The app's function that removes a file: `{"path": text}`. Its answer is ignored. A file that is
/// not there is no error. It must be quick, because it is called with the write lock held.
pub const REMOVE_FILE: &str = "remove-file";

/// The action in the audit log.
pub const ACTION: &str = "cache_entry.evicted";

/// A hundred thousand years: far from any overflow.
const MAX_AGE_SECONDS: i64 = 36_500_000 * 86_400;

/// The note for a job that bounds nothing.
const UNBOUNDED: &str =
    "neither max_age_seconds nor max_bytes is set, so every entry is kept: set one of them";

/// This many failures of the function in a row end the attempt, because no single file is at fault.
const FAILURES_IN_A_ROW: u32 = 10;

/// The worker.
#[derive(Debug, Clone, Copy, Default)]
pub struct EvictCache;

impl Worker for EvictCache {
    fn manifest(&self) -> Manifest {
        Manifest::new("evict-cache", env!("CARGO_PKG_VERSION"))
            .common_sql()
            .description("Deletes what a cache has not used for long, or has too much of.")
            .arg(
                "table",
                ArgSpec::default_value("cache_entries")
                    .describe("The table or view of the cache's entries."),
            )
            .arg(
                "id_column",
                ArgSpec::default_value("id").describe("The column that tells entries apart."),
            )
            .arg(
                "used_at_column",
                ArgSpec::default_value("used_at")
                    .describe("The column with the time of the last use."),
            )
            .arg(
                "bytes_column",
                ArgSpec::default_value("bytes").describe("The column with an entry's size."),
            )
            .arg(
                "path_column",
                ArgSpec::default_value(Json::Null).describe(
                    "The column that names an entry's file; null: entries have no files.",
                ),
            )
            .arg(
                "max_age_seconds",
                ArgSpec::default_value(Json::Null)
                    .describe("Seconds an entry is kept after its last use; null: for ever."),
            )
            .arg(
                "max_bytes",
                ArgSpec::default_value(Json::Null)
                    .describe("Bytes all entries may have together, 0 or more; null: any number."),
            )
            .arg("timestamps", TimeFormat::arg())
            .arg("batch_size", Walk::batch_size_arg(200, "Rows deleted"))
            .table(TableAsk::from_arg("table", "cache_entries").read().delete())
            .capability(REMOVE_FILE)
            .schedule(Suggested::Cron("10 * * * *".into()))
    }

    fn perform(
        &self,
        job: &Context<'_>,
        _: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        let columns = Columns::from_args(args)?;
        let times = TimeFormat::from_args(args)?;
        let batch_size = Walk::batch_size(args)?;
        let max_age = match args.opt::<Json>("max_age_seconds")? {
            None => None,
            Some(_) => Some(args.positive("max_age_seconds", MAX_AGE_SECONDS)?),
        };
        let max_bytes = max_bytes(args)?;
        if max_age.is_none() && max_bytes.is_none() {
            let mut result = Counts::default().result(false);
            result["note"] = json!(UNBOUNDED);
            return Ok(Outcome::DoneWith(result));
        }
        let cutoff = max_age.map(|seconds| job.now() - seconds * 1000);
        if let Some(cutoff) = cutoff {
            let used_at = format!("{}.{}", columns.table, columns.used_at);
            times.check(job, &columns.table, &used_at, "1 = 1", cutoff)?;
        }
        let mut eviction = Eviction {
            columns: &columns,
            delete: columns.delete(),
            named: columns.still_named(),
            most: None,
            left: 0.0,
            scanned: 0,
            failures: 0,
            last_failure: None,
            batch: Counts::default(),
            total: Counts::default(),
        };
        if let Some(cutoff) = cutoff {
            eviction.run(job, &columns.aged(times), &params![cutoff], batch_size)?;
        }
        if let Some(most) = max_bytes {
            eviction.most = Some(most);
            if let Some(mut row) = job.query_row(&columns.total(), params![])? {
                eviction.left = row.take(0)?;
            }
            eviction.run(job, &columns.all(), &[], batch_size)?;
        }
        Ok(Outcome::DoneWith(eviction.total.result(columns.path.is_some())))
    }
}

verger_worker::export!(EvictCache);

fn max_bytes(args: &Args) -> Result<Option<f64>, ArgError> {
    match args.as_map().get("max_bytes") {
        None | Some(Json::Null) => Ok(None),
        Some(value) => match value.as_i64() {
            Some(bytes) if bytes >= 0 => Ok(Some(bytes as f64)),
            _ => Err(ArgError::Wrong {
                key: "max_bytes".into(),
                reason: "must be null or a whole number of 0 or more".into(),
            }),
        },
    }
}

/// What was evicted.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    evicted: u64,
    bytes: f64,
    files: u64,
    errors: u64,
}

impl Counts {
    fn add(&mut self, more: Self) {
        self.evicted += more.evicted;
        self.bytes += more.bytes;
        self.files += more.files;
        self.errors += more.errors;
    }

    fn result(self, has_files: bool) -> Json {
        let mut result = json!({ "evicted": self.evicted, "bytes": self.bytes as i64 });
        if has_files {
            result["files"] = json!(self.files);
        }
        if self.errors > 0 {
            result["errors"] = json!(self.errors);
        }
        result
    }
}

/// A row as the walk gives it.
struct Entry {
    used_at: Value,
    id: Value,
    bytes: f64,
    path: Value,
}

impl Entry {
    fn read(mut row: Row) -> Result<Self, HostError> {
        Ok(Self {
            used_at: row.take(0)?,
            id: row.take(1)?,
            bytes: row.take(2)?,
            path: row.take(3)?,
        })
    }

    fn key(&self) -> Vec<Value> {
        vec![self.used_at.clone(), self.id.clone()]
    }
}

/// How the eviction of one entry ended.
enum Evicted {
    /// It is gone, with its file if no other row names it.
    Gone { files: u64 },
    /// It was used, or deleted, meanwhile.
    Kept,
}

struct Eviction<'a> {
    columns: &'a Columns,
    delete: String,
    named: String,
    /// The most bytes there may be. `None` if every entry of the walk must go.
    most: Option<f64>,
    /// Bytes of all entries that are left.
    left: f64,
    scanned: u64,
    failures: u32,
    last_failure: Option<HostError>,
    batch: Counts,
    total: Counts,
}

impl Eviction<'_> {
    fn run(
        &mut self,
        job: &Context<'_>,
        walk: &Walk,
        params: &[Value],
        batch_size: i64,
    ) -> Result<(), HostError> {
        let mut last: Option<Vec<Value>> = None;
        loop {
            let mut params = params.to_vec();
            let sql = match last {
                None => walk.first_batch(),
                Some(last) => {
                    let sql = walk.batch_after(&last);
                    params.extend(last);
                    sql
                }
            };
            params.push(Value::from(batch_size));
            let rows = job.query(&sql, params)?.rows().collect::<Result<Vec<_>, _>>()?;
            let entries = rows.into_iter().map(Entry::read).collect::<Result<Vec<_>, _>>()?;
            let is_last = (entries.len() as u64) < batch_size.unsigned_abs();
            last = entries.last().map(Entry::key);
            self.scanned += entries.len() as u64;
            let is_over = self.evict_all(job, entries)? || is_last;
            self.audit(job)?;
            job.progress(self.scanned, 0);
            if is_over {
                return Ok(());
            }
            job.checkpoint()?;
        }
    }

    /// Evicts what must go. Returns whether nothing after these entries must.
    fn evict_all(&mut self, job: &Context<'_>, entries: Vec<Entry>) -> Result<bool, HostError> {
        for entry in entries {
            if self.most.is_some_and(|most| self.left <= most) {
                return Ok(true);
            }
            match self.evict(job, &entry) {
                Ok(Evicted::Gone { files }) => {
                    self.left -= entry.bytes;
                    let gone = Counts { evicted: 1, bytes: entry.bytes, files, errors: 0 };
                    self.batch.add(gone);
                }
                Ok(Evicted::Kept) => {}
                Err(error) if error.concerns_one_row() || error.code == code::CAPABILITY => {
                    self.refused(job, &entry, error)?;
                }
                Err(error) => return Err(error),
            }
            if job.checkpoint_due() {
                self.audit(job)?;
                job.checkpoint()?;
            }
        }
        Ok(false)
    }

    fn evict(&mut self, job: &Context<'_>, entry: &Entry) -> Result<Evicted, HostError> {
        let savepoint = job.savepoint()?;
        let key = vec![entry.id.clone(), entry.used_at.clone()];
        // If the app's trigger refuses the row, the transaction stays.
        let deleted = job.execute_many(&self.delete, &[key])?.pop();
        if deleted.unwrap_or(Ok(0))? == 0 {
            savepoint.release()?;
            return Ok(Evicted::Kept);
        }
        let files = match &entry.path {
            Value::Null => 0,
            Value::Text(path) if path.is_empty() => 0,
            Value::Text(path) => self.remove(job, path)?,
            _ => return Err(HostError::new(code::TYPE, "the path of its file is no text")),
        };
        savepoint.release()?;
        Ok(Evicted::Gone { files })
    }

    /// Removes a file that no row names any more. Returns how many were removed.
    fn remove(&mut self, job: &Context<'_>, path: &str) -> Result<u64, HostError> {
        if job.query_row(&self.named, params![path])?.is_some() {
            return Ok(0);
        }
        match job.call(REMOVE_FILE, &json!({ "path": path })) {
            Ok(_) => {
                self.failures = 0;
                Ok(1)
            }
            Err(error) if error.code == code::CHECKPOINT_FIRST => Err(HostError::new(
                code::DENIED,
                format!(
                    "the app registered `{REMOVE_FILE}` as slow, and files are removed with the write lock held: register it with Builder::capability"
                ),
            )),
            Err(error) => Err(error),
        }
    }

    /// Counts an entry that could not go.
    fn refused(
        &mut self,
        job: &Context<'_>,
        entry: &Entry,
        error: HostError,
    ) -> Result<(), HostError> {
        self.batch.errors += 1;
        let id = entry.id.as_id().unwrap_or_default();
        let event = AuditEvent::error(ACTION).subject("cache_entry", id).cause(&error);
        job.audit_batch(&[event])?;
        if error.code == code::CAPABILITY {
            self.failures += 1;
            self.last_failure = Some(error);
        }
        match self.last_failure.take_if(|_| self.failures >= FAILURES_IN_A_ROW) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Audits what was evicted since the last time.
    fn audit(&mut self, job: &Context<'_>) -> Result<(), HostError> {
        let batch = std::mem::take(&mut self.batch);
        self.total.add(batch);
        if batch.evicted == 0 {
            return Ok(());
        }
        let metadata = Counts { errors: 0, ..batch }.result(self.columns.path.is_some());
        job.audit_batch(&[AuditEvent::success(ACTION).metadata(metadata)])
    }
}
