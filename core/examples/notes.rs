//! A desktop app in one file: notes, a search index that follows them, an export, and whatever
//! plugins a user drops into a folder. `cargo run --release --example notes -- notes.db plugins`
//!
//! The app's tables and Verger's are in one file, and one transaction writes both a note and the
//! job that indexes it. A second thread shows what runs and how far it is, and tells once of each
//! job that failed. Leaving takes two seconds at most. What is not done by then goes on at the next
//! start.
//!
//! It reads commands from the standard input, where a window would have buttons.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use verger::rusqlite::{self, Connection, TransactionBehavior, params};
use verger::verger_worker::params as sql;
use verger::verger_worker::prelude::{ArgSpec, Args, Context, Scope, TableAsk, WorkerError};
use verger::{JobFilter, JobId, JobState, Manifest, NewJob, Outcome, Schedule, Verger, Worker};

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// The app's own tables, by its own version number: Verger leaves `user_version` alone.
const MIGRATIONS: [&str; 2] = [
    "CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL, written_at INTEGER NOT NULL);",
    "CREATE TABLE words (word TEXT NOT NULL, note INTEGER NOT NULL REFERENCES notes ON DELETE CASCADE,
         PRIMARY KEY (word, note)) WITHOUT ROWID;
     ALTER TABLE notes ADD COLUMN indexed_at INTEGER;
     CREATE INDEX notes_not_indexed ON notes (id) WHERE indexed_at IS NULL;",
];

/// Notes that are indexed between two commits.
const BATCH: i64 = 50;

fn connect(file: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(file)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update(None, "foreign_keys", true)?;
    Ok(connection)
}

fn migrate(app: &mut Connection) -> rusqlite::Result<()> {
    let transaction = app.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: u32 =
        transaction
            .query_row("SELECT user_version FROM pragma_user_version", [], |row| row.get(0))?;
    for step in MIGRATIONS.iter().skip(version as usize) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "user_version", MIGRATIONS.len() as u32)?;
    transaction.commit()
}

/// Puts the words of new notes into the index.
struct IndexNotes;

impl Worker for IndexNotes {
    fn manifest(&self) -> Manifest {
        Manifest::new("index-notes", "1.0.0")
            .table(TableAsk::named("notes").read().update())
            .table(TableAsk::named("words").insert())
    }

    fn perform(
        &self,
        job: &Context<'_>,
        _: Option<&Scope>,
        _: &Args,
    ) -> Result<Outcome, WorkerError> {
        let count = "SELECT count(*) FROM notes WHERE indexed_at IS NULL";
        let total: i64 = match job.query_row(count, sql![])? {
            Some(mut row) => row.take(0)?,
            None => 0,
        };
        let mut done = 0;
        loop {
            let next = "SELECT id, text FROM notes WHERE indexed_at IS NULL ORDER BY id LIMIT ?1";
            let notes: Vec<(i64, String)> = job
                .query(next, sql![BATCH])?
                .rows()
                .map(|row| row.and_then(|mut row| Ok((row.take(0)?, row.take(1)?))))
                .collect::<Result<_, _>>()?;
            if notes.is_empty() {
                return Ok(Outcome::DoneWith(json!({ "indexed": done })));
            }
            for (note, text) in &notes {
                for word in words(text) {
                    job.execute(
                        "INSERT OR IGNORE INTO words (word, note) VALUES (?1, ?2)",
                        sql![word, *note],
                    )?;
                }
                let now = job.now();
                job.execute("UPDATE notes SET indexed_at = ?1 WHERE id = ?2", sql![now, *note])?;
            }
            done += notes.len() as i64;
            job.progress(done as u64, total.max(done) as u64);
            // What is indexed stays indexed, and the window may write a note.
            job.checkpoint()?;
        }
    }
}

fn words(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

/// Writes every note into a file of its own.
struct ExportNotes;

impl Worker for ExportNotes {
    fn manifest(&self) -> Manifest {
        Manifest::new("export-notes", "1.0.0")
            .arg("folder", ArgSpec::required())
            .table(TableAsk::named("notes").read())
    }

    fn perform(
        &self,
        job: &Context<'_>,
        _: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        let folder = PathBuf::from(args.get::<String>("folder")?);
        let failed = |error: std::io::Error| {
            WorkerError::new(format!("cannot write into {}: {error}", folder.display()))
        };
        std::fs::create_dir_all(&folder).map_err(failed)?;
        let mut done = 0;
        let mut notes = job.query("SELECT id, text FROM notes ORDER BY id", sql![])?.rows();
        while let Some(mut row) = notes.next().transpose()? {
            let (note, text): (i64, String) = (row.take(0)?, row.take(1)?);
            // Whole or not at all, and the same whenever it is done again.
            let file = folder.join(format!("{note}.txt"));
            let half = folder.join(format!("{note}.part"));
            std::fs::write(&half, text)
                .and_then(|()| std::fs::rename(&half, file))
                .map_err(failed)?;
            done += 1;
            if job.is_cancelled() {
                return Ok(Outcome::Cancel(format!("stopped after {done} notes")));
            }
        }
        Ok(Outcome::DoneWith(json!({ "exported": done })))
    }
}

/// The app: its own connection, and Verger on the same file.
struct App {
    connection: Connection,
    verger: Verger,
}

impl App {
    fn open(file: &Path, plugins: &Path) -> Result<Self> {
        let mut connection = connect(file)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        migrate(&mut connection)?;
        let verger = Verger::builder(file)
            .without_built_ins()
            .worker(IndexNotes)
            .worker(ExportNotes)
            .plugins(plugins)
            // After a crash between a note and its job there is none: they are one transaction. The
            // schedule is for notes that other programs wrote.
            .schedule(Schedule::every("index", Duration::from_secs(3_600))?.worker("index-notes"))
            .open()?;
        for refused in verger.refused_plugins() {
            say(format!("! {refused}"));
        }
        Ok(Self { connection, verger })
    }

    /// The note and its job: both or neither.
    fn add(&mut self, text: &str) -> Result<()> {
        let now = self.verger.now().as_millis();
        let transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction
            .execute("INSERT INTO notes (text, written_at) VALUES (?1, ?2)", params![text, now])?;
        // One job that waits indexes all that is there when it begins.
        self.verger.enqueue_in(&transaction, NewJob::new("index-notes", json!({})).unique())?;
        transaction.commit()?;
        Ok(())
    }

    fn find(&self, word: &str) -> Result<()> {
        let mut select = self.connection.prepare(
            "SELECT n.id, n.text FROM words AS w JOIN notes AS n ON n.id = w.note WHERE w.word = ?1",
        )?;
        let mut rows = select.query([word.to_lowercase()])?;
        while let Some(row) = rows.next()? {
            say(format!("{}: {}", row.get::<_, i64>(0)?, row.get::<_, String>(1)?));
        }
        Ok(())
    }

    fn jobs(&self) -> Result<()> {
        for job in self.verger.jobs(&JobFilter::new(), 20)? {
            let progress = match (job.progress_done, job.progress_total) {
                (Some(done), Some(total)) if total > 0 => format!(", {done} of {total}"),
                _ => String::new(),
            };
            say(format!("{} {}: {}{progress}", job.id, job.worker, job.state));
        }
        Ok(())
    }

    /// False to leave.
    fn obey(&mut self, line: &str) -> Result<bool> {
        let (command, rest) = line.split_once(' ').unwrap_or((line, ""));
        match (command, rest.trim()) {
            ("add", text) if !text.is_empty() => self.add(text)?,
            ("find", word) => self.find(word)?,
            ("export", folder) if !folder.is_empty() => {
                let job = NewJob::new("export-notes", json!({ "folder": folder })).max_attempts(2);
                say(format!("job {}", self.verger.enqueue(job)?.id));
            }
            ("jobs", _) => self.jobs()?,
            ("cancel", id) => {
                let cancelled = self.verger.cancel(JobId::from_number(id.parse()?))?;
                say(if cancelled { "it is cancelled" } else { "it has come to its end before" });
            }
            ("quit", _) => return Ok(false),
            ("", _) => {}
            _ => say("add TEXT, find WORD, export FOLDER, jobs, cancel ID or quit"),
        }
        Ok(true)
    }
}

/// Shows what runs, and tells once of each job that failed.
fn watch(verger: &Verger, is_over: &AtomicBool) -> Result<()> {
    // What failed before the app was opened is no news.
    let failed = JobFilter::new().state(JobState::Discarded);
    let mut told: BTreeSet<i64> =
        verger.jobs(&failed, 1_000)?.iter().map(|job| job.id.number()).collect();
    let mut shown = BTreeMap::new();
    while !is_over.load(Ordering::Relaxed) {
        for job in verger.jobs(&JobFilter::new().state(JobState::Executing), 20)? {
            let Some(done) = job.progress_done else { continue };
            if shown.insert(job.id.number(), done) != Some(done) {
                say(format!(
                    "… {} {}: {done} of {}",
                    job.worker,
                    job.id,
                    job.progress_total.unwrap_or(0)
                ));
            }
        }
        for job in verger.jobs(&failed, 20)? {
            if told.insert(job.id.number()) {
                let why = job.errors.last().map_or("no reason", |error| &error.message);
                say(format!("! {} (job {}) failed: {why}", job.worker, job.id));
            }
        }
        std::thread::sleep(Duration::from_millis(250));
    }
    Ok(())
}

/// A reader that has gone away is no fault.
fn say(line: impl AsRef<str>) {
    let _ = writeln!(std::io::stdout(), "{}", line.as_ref());
}

fn main() -> Result<()> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let file = args.next().unwrap_or_else(|| "notes.db".into());
    let mut app = App::open(&file, &args.next().unwrap_or_else(|| "plugins".into()))?;
    let ticking = app.verger.start()?;
    let is_over = AtomicBool::new(false);
    let (verger, is_over) = (app.verger.clone(), &is_over);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            if let Err(error) = watch(&verger, is_over) {
                say(format!("! {error}"));
            }
        });
        for line in std::io::stdin().lock().lines() {
            match line.map_err(Into::into).and_then(|line| app.obey(&line)) {
                Ok(true) => {}
                Ok(false) => break,
                // A mistake of the user's, or a disk that is full: the app stays.
                Err(error) => say(format!("! {error}")),
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
    // A job that is not done by then goes back to the queue, and on at the next start.
    ticking.stop(Duration::from_secs(2))?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;

    fn open(folder: &Path) -> App {
        App::open(&folder.join("notes.db"), &folder.join("plugins")).unwrap()
    }

    fn one<T: rusqlite::types::FromSql>(app: &App, sql: &str) -> T {
        app.connection.query_row(sql, [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn a_note_and_its_job_are_one_transaction_and_the_index_follows() {
        let folder = tempfile::tempdir().unwrap();
        let mut app = open(folder.path());
        for note in ["add Buy apples", "add Eat apples, then sleep"] {
            assert!(app.obey(note).unwrap());
        }
        let jobs: Vec<_> = app.verger.jobs(&JobFilter::new(), 9).unwrap();
        assert_eq!(jobs.len(), 1, "one that waits indexes both");
        app.verger.tick(app.verger.now()).unwrap();
        let found = "SELECT count(*) FROM words WHERE word = 'apples'";
        assert_eq!(one::<i64>(&app, found), 2);
        // Opened again, it migrates nothing, and Verger left the app's version alone.
        drop(app);
        let mut app = open(folder.path());
        assert_eq!(one::<i64>(&app, "PRAGMA user_version"), 2);
        app.obey("add More apples").unwrap();
        app.verger.tick(app.verger.now()).unwrap();
        assert_eq!(one::<i64>(&app, found), 3);
        assert!(!app.obey("quit").unwrap());
    }

    #[test]
    fn an_export_writes_whole_files_and_one_that_cannot_says_where() {
        let folder = tempfile::tempdir().unwrap();
        let mut app = open(folder.path());
        app.obey("add Buy apples").unwrap();
        let into = folder.path().join("out");
        app.verger.perform_now("export-notes", json!({ "folder": into })).unwrap();
        assert_eq!(std::fs::read_to_string(into.join("1.txt")).unwrap(), "Buy apples");
        let blocked = folder.path().join("notes.db");
        let failed = app.verger.perform_now("export-notes", json!({ "folder": blocked }));
        let said = failed.unwrap_err().to_string();
        assert!(said.contains("notes.db"), "{said}");
    }

    #[test]
    fn a_running_job_keeps_the_app_open_for_no_longer_than_it_is_given() {
        let folder = tempfile::tempdir().unwrap();
        let mut app = open(folder.path());
        for _ in 0..20 {
            app.obey("add Some words to index").unwrap();
        }
        let ticking = app.verger.start().unwrap();
        ticking.stop(Duration::from_secs(2)).unwrap();
        let left = app.verger.jobs(&JobFilter::new(), 9).unwrap();
        assert!(left.iter().all(|job| job.state != JobState::Executing), "{left:?}");
    }
}
