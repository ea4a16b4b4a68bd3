//! The doctor: which file, by which clock, and what is known of its workers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;
use serde::Serialize;

#[cfg(feature = "wasm")]
use super::cache;
use super::examination::{Examination, quoted};
use super::facts::Facts;
use super::finding::{Finding, Severity};
use super::{clock, contents, file, jobs, litestream, queues, schedules, schema, settings};
use crate::clock::{Clock, SystemClock};
use crate::store::{Location, StoreErrorKind, advice, kind_of};
use crate::time::Timestamp;

/// A file no larger than this is read whole: its pages, its tables, its audit log.
pub(super) const READ_WHOLE_BYTES: u64 = 256 << 20;

/// Looks at a database and says what is wrong with it.
///
/// It works on any file: a damaged one, one of another program, or one that is no database. Looking
/// changes nothing in it.
///
/// ```
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("app.db");
/// # drop(verger::Verger::builder(&path).without_built_ins().open()?);
/// let diagnosis = verger::Doctor::new(&path).examine();
/// for finding in &diagnosis.findings {
///     println!("{}: {}", finding.severity, finding.message);
/// }
/// assert!(diagnosis.is_well());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a doctor does nothing until it examines"]
pub struct Doctor {
    pub(super) path: PathBuf,
    clock: Arc<dyn Clock>,
    known: Option<Known>,
    thorough: bool,
    #[cfg(feature = "wasm")]
    cache: crate::sandbox::CompileCache,
}

/// What a process that has the file open knows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    /// The names of its workers.
    pub(crate) workers: Vec<String>,
    /// The newest version of its args that each worker takes, where that is known.
    pub(crate) newest_args: BTreeMap<String, u32>,
    /// Why plugins were refused.
    pub(crate) refused: Vec<String>,
    /// What plugins wait for until somebody decides.
    pub(crate) waiting: Vec<String>,
    /// What workers ask for and are not granted.
    pub(crate) withheld: Vec<String>,
    /// Whether there are no other workers, because the app itself looks.
    pub(crate) is_the_app: bool,
}

/// What the doctor found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Diagnosis {
    /// The file; empty for a database in memory.
    pub file: PathBuf,
    /// When it looked.
    pub at: Timestamp,
    /// What it found, the worst first.
    pub findings: Vec<Finding>,
    /// What it measured.
    pub facts: Facts,
}

impl Diagnosis {
    /// Whether nothing is wrong: all findings are notes.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity == Severity::Note)
    }
}

impl Doctor {
    /// A doctor for the file at this path.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self {
            path: path.as_ref().to_path_buf(),
            clock: Arc::new(SystemClock),
            known: None,
            thorough: false,
            #[cfg(feature = "wasm")]
            cache: crate::sandbox::CompileCache::default(),
        }
    }

    /// Reads time from this clock instead of the system's.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Adds workers that are known. Jobs and schedules of other workers get a note only, because
    /// the app may have more workers than the caller knows of.
    pub fn workers(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let known = self.known.get_or_insert_default();
        known.workers = names.into_iter().map(Into::into).collect();
        self
    }

    pub(crate) fn knowing(mut self, known: Known) -> Self {
        self.known = Some(known);
        self
    }

    /// Reads files of any size whole. Without it, the pages, foreign keys, table sizes and audit
    /// log of a file of more than 256 MiB are not checked.
    pub fn thorough(mut self) -> Self {
        self.thorough = true;
        self
    }

    /// Where compiled components are kept, if not in the user's own cache folder.
    #[cfg(feature = "wasm")]
    pub fn compile_cache(mut self, cache: crate::sandbox::CompileCache) -> Self {
        self.cache = cache;
        self
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Looks at the file. It does not fail: what cannot be read is a finding.
    #[must_use]
    pub fn examine(&self) -> Diagnosis {
        let now = self.clock.now();
        let facts = Facts {
            sqlite: rusqlite::version().to_string(),
            schema_known: schema::known(),
            ..Facts::default()
        };
        let refused = |finding: Finding, facts: Facts| Diagnosis {
            file: self.path.clone(),
            at: now,
            findings: vec![finding],
            facts,
        };
        let path = match file::resolve(&self.path) {
            Ok(path) => path,
            Err(finding) => return refused(finding, facts),
        };
        let looked = match Location::look(&path) {
            Ok(connection) => connection,
            Err(error) => return refused(unopened(&path, &error), facts),
        };
        let mut examination = Examination {
            connection: &looked,
            path: Some(&path),
            now,
            known: self.known.as_ref(),
            facts,
            findings: Vec::new(),
        };
        file::check(&mut examination);
        check(&mut examination, self.thorough);
        #[cfg(feature = "wasm")]
        cache::check(&mut examination, &self.cache);
        finish(examination)
    }
}

/// All checks of what is in a database, through this connection.
pub(crate) fn examine_connection(
    connection: &Connection,
    path: Option<&Path>,
    now: Timestamp,
    known: &Known,
) -> Diagnosis {
    let facts = Facts {
        sqlite: rusqlite::version().to_string(),
        schema_known: schema::known(),
        ..Facts::default()
    };
    let mut examination =
        Examination { connection, path, now, known: Some(known), facts, findings: Vec::new() };
    if path.is_some() {
        file::check(&mut examination);
    }
    check(&mut examination, false);
    finish(examination)
}

fn check(examination: &mut Examination<'_>, thorough: bool) {
    if !settings::check(examination) {
        return;
    }
    litestream::check(examination);
    file::check_log(examination);
    let whole =
        thorough || examination.facts.file_bytes.is_none_or(|bytes| bytes <= READ_WHOLE_BYTES);
    if whole && !contents::check_pages(examination) {
        // What is read from damaged pages says nothing more.
        return;
    }
    if !schema::check(examination) {
        return;
    }
    clock::check(examination);
    jobs::check(examination);
    queues::check(examination);
    schedules::check(examination);
    if let Some(known) = examination.known {
        plugins(examination, known);
    }
    match whole {
        true => contents::check(examination),
        false => {
            let finding = Finding::note(
                "not-read-whole",
                "the file is large: its pages, the room of its tables and its audit log were not read whole",
            );
            let mend = examination.verb("doctor --thorough");
            examination.found(finding.mend(mend));
        }
    }
}

fn plugins(examination: &mut Examination<'_>, known: &Known) {
    for reason in &known.refused {
        examination.found(
            Finding::warning("plugin-refused", format!("a plugin was refused: {reason}"))
                .mend("verger plugin inspect FILE.wasm"),
        );
    }
    for reason in &known.waiting {
        examination
            .found(Finding::warning("plugin-waits", reason.clone()).mend("verger plugin grants"));
    }
    for reason in &known.withheld {
        examination.found(
            Finding::note("plugin-withheld", reason.clone())
                .mend("verger plugin inspect FILE.wasm"),
        );
    }
}

fn finish(mut examination: Examination<'_>) -> Diagnosis {
    examination.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    Diagnosis {
        file: examination.path.map(Path::to_path_buf).unwrap_or_default(),
        at: examination.now,
        findings: examination.findings,
        facts: examination.facts,
    }
}

/// What is said of a file that SQLite does not open.
fn unopened(path: &Path, error: &rusqlite::Error) -> Finding {
    let name = path.display();
    let kind = kind_of(error);
    match kind {
        StoreErrorKind::Corrupt => Finding::error(
            "no-database",
            format!("{name} is no SQLite database, or its first page is damaged ({error})"),
        )
        .mend(format!("file {}", quoted(path))),
        StoreErrorKind::Busy => Finding::error(
            "locked",
            format!("{name} is locked by another program, so that nobody can read it"),
        )
        .mend(format!("lsof {}", quoted(path))),
        _ => Finding::error("unopened", format!("{name}: {} ({error})", advice(kind)))
            .mend(format!("ls -l {}", quoted(path))),
    }
}
