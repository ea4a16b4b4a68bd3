//! The doctor says what is wrong with a database, names what mends it, and works on any file.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod streamed;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use tempfile::TempDir;
use verger::rusqlite::Connection;
use verger::testing::{ManualClock, TestVerger};
use verger::verger_worker::prelude::*;
use verger::{
    Clock, Diagnosis, Doctor, Fix, JobState, NewJob, Schedule, Severity, Timestamp, Verger,
};

const START: Timestamp = TestVerger::START;

struct Fails;

impl Worker for Fails {
    fn manifest(&self) -> Manifest {
        Manifest::new("fails", "1.0.0")
    }

    fn perform(
        &self,
        _: &Context<'_>,
        _: Option<&Scope>,
        _: &Args,
    ) -> Result<Outcome, WorkerError> {
        Ok(Outcome::Failed(WorkerError::new("the mail server is away")))
    }
}

/// A file that Verger made, and the folder it is in.
struct Site {
    folder: TempDir,
    clock: ManualClock,
}

impl Site {
    fn new() -> Self {
        let site = Self { folder: tempfile::tempdir().unwrap(), clock: ManualClock::at(START) };
        drop(site.open());
        site
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("app.db")
    }

    fn open(&self) -> Verger {
        let builder = Verger::builder(self.path()).without_built_ins().worker(Fails);
        builder.clock(self.clock.clone()).open().unwrap()
    }

    fn sql(&self, sql: &str) {
        Connection::open(self.path()).unwrap().execute_batch(sql).unwrap();
    }

    fn doctor(&self) -> Doctor {
        doctor(&self.path()).clock(self.clock.clone())
    }

    fn examine(&self) -> Diagnosis {
        self.doctor().examine()
    }
}

/// A doctor that does not look at the compile cache of whoever runs the tests.
fn doctor(path: &Path) -> Doctor {
    let doctor = Doctor::new(path);
    #[cfg(feature = "wasm")]
    let doctor = doctor.compile_cache(verger::CompileCache::Off);
    doctor
}

/// The codes of what is wrong.
fn wrong(diagnosis: &Diagnosis) -> Vec<&'static str> {
    let wrong = diagnosis.findings.iter().filter(|finding| finding.severity != Severity::Note);
    wrong.map(|finding| finding.code).collect()
}

#[track_caller]
fn message<'d>(diagnosis: &'d Diagnosis, code: &str) -> &'d str {
    let found = diagnosis.findings.iter().find(|finding| finding.code == code);
    &found.unwrap_or_else(|| panic!("no `{code}` in {:?}", diagnosis.findings)).message
}

fn listing(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), std::fs::read(path).unwrap_or_default()))
        .collect();
    files.sort();
    files
}

#[test]
fn a_file_that_is_well_is_said_to_be_well_and_nothing_is_left_beside_it() {
    let site = Site::new();
    let before = listing(site.folder.path());
    let diagnosis = site.examine();
    assert!(diagnosis.is_well(), "{:?}", diagnosis.findings);
    assert_eq!(listing(site.folder.path()), before);
    let facts = &diagnosis.facts;
    assert_eq!(facts.journal_mode.as_deref(), Some("wal"));
    assert_eq!((facts.page_bytes, facts.is_open), (Some(4_096), Some(false)));
    assert_eq!(facts.schema_version, Some(facts.schema_known));
    assert!(facts.tables.iter().any(|table| table.table == "verger_jobs" && table.rows == Some(0)));
    let open = site.open();
    assert!(open.doctor().unwrap().is_well());
    assert_eq!(site.examine().facts.is_open, Some(true));
}

#[test]
fn a_file_that_is_none_of_ours_gets_one_sentence_and_is_left_alone() {
    let site = Site::new();
    let path = |name: &str| site.folder.path().join(name);
    std::fs::write(path("letter.txt"), "Dear verger, ".repeat(1_000)).unwrap();
    std::fs::write(path("empty.db"), "").unwrap();
    std::fs::write(path("short.db"), &std::fs::read(site.path()).unwrap()[..700]).unwrap();
    std::fs::create_dir(path("folder")).unwrap();
    for mode in ["wal", "delete"] {
        let other = Connection::open(path(&format!("other-{mode}.db"))).unwrap();
        other.query_row(&format!("PRAGMA journal_mode = {mode}"), [], |_| Ok(())).unwrap();
        other.execute_batch("CREATE TABLE mine (id INTEGER)").unwrap();
    }
    let before = listing(site.folder.path());
    for (name, code) in [
        ("letter.txt", "no-database"),
        ("empty.db", "no-tables"),
        ("other-wal.db", "no-tables"),
        ("other-delete.db", "no-tables"),
        ("folder", "no-file"),
        ("nowhere.db", "no-file"),
    ] {
        let diagnosis = doctor(&path(name)).examine();
        assert!(!diagnosis.is_well(), "{name}");
        let finding = diagnosis.findings.iter().find(|finding| finding.code == code);
        let finding = finding.unwrap_or_else(|| panic!("{name}: {:?}", diagnosis.findings));
        assert!(finding.mend.is_some(), "{name}");
    }
    let short = doctor(&path("short.db")).examine();
    assert!(!short.is_well(), "{:?}", short.findings);
    assert_eq!(listing(site.folder.path()), before);
}

#[test]
fn every_damaged_page_is_a_finding_and_never_a_panic() {
    let site = Site::new();
    let verger = site.open();
    for n in 0..2_000 {
        verger.enqueue(NewJob::new("fails", json!({"n": n, "text": "x".repeat(60)}))).unwrap();
    }
    drop(verger);
    let sound = std::fs::read(site.path()).unwrap();
    let pages = sound.len() / 4_096;
    let (mut found, mut tried) = (0, 0);
    for page in (0..pages).step_by(pages / 12 + 1) {
        let mut bytes = sound.clone();
        // All of a page but, of the first, the header that makes it a database.
        let from = page * 4_096 + if page == 0 { 100 } else { 0 };
        bytes[from..(page + 1) * 4_096].fill(0xa5);
        std::fs::write(site.path(), &bytes).unwrap();
        let diagnosis = site.examine();
        tried += 1;
        found += usize::from(!diagnosis.is_well());
        assert_eq!(std::fs::read(site.path()).unwrap(), bytes, "page {page}");
    }
    // A page that holds nothing may hold anything.
    assert!(tried > 5 && found + 1 >= tried, "{found} of {tried}");
}

#[test]
fn settings_that_hurt_are_named_and_mended_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let app = Connection::open(&path).unwrap();
    app.execute_batch("PRAGMA page_size = 1024; CREATE TABLE mine (id INTEGER)").unwrap();
    drop(app);
    drop(Verger::builder(&path).without_built_ins().open().unwrap());
    let doctor = doctor(&path);
    let diagnosis = doctor.examine();
    assert_eq!(wrong(&diagnosis), ["journal-mode", "page-size"]);
    assert_eq!(diagnosis.findings[0].fix, Some(Fix::Asked));
    // What the app may have chosen is not changed unasked.
    assert_eq!(doctor.fix(None).unwrap(), []);
    assert_eq!(doctor.fix(Some("journal-mode")).unwrap()[0].done, "the journal mode is wal");
    assert_eq!(wrong(&doctor.examine()), ["page-size"]);
}

#[test]
fn tables_that_someone_changed_are_named_and_what_is_gone_is_made_again() {
    let site = Site::new();
    site.sql("DROP INDEX verger_jobs_due; DROP TRIGGER verger_audit_no_delete;");
    let diagnosis = site.examine();
    assert_eq!(wrong(&diagnosis), ["schema-missing", "schema-missing"]);
    assert!(message(&diagnosis, "schema-missing").contains("verger_audit_no_delete"));
    assert_eq!(site.doctor().fix(None).unwrap().len(), 1);
    assert!(site.examine().is_well());

    site.sql("DROP INDEX verger_jobs_due; CREATE INDEX verger_jobs_due ON verger_jobs (queue);");
    assert_eq!(wrong(&site.examine()), ["schema-changed"]);
    site.sql("DROP TABLE verger_fires;");
    assert!(wrong(&site.examine()).contains(&"schema-missing"));

    let newer = Site::new();
    newer.sql("INSERT INTO verger_migrations VALUES ('engine', 99, 'later', 0)");
    assert_eq!(wrong(&newer.examine()), ["schema-newer"]);
}

#[test]
fn jobs_that_do_not_go_on_are_told_with_the_reason() {
    let site = Site::new();
    let verger = site.open();
    let job = verger.enqueue(NewJob::new("fails", json!({})).max_attempts(1)).unwrap().id;
    verger.tick(START).unwrap();
    assert_eq!(verger.job(job).unwrap().unwrap().state, JobState::Discarded);
    verger.enqueue(NewJob::new("fails", json!({})).queue("mail")).unwrap();
    verger.enqueue_unchecked(NewJob::new("elsewhere", json!({}))).unwrap();
    site.clock.advance(Duration::from_secs(3_600));

    let inside = verger.doctor().unwrap();
    assert_eq!(wrong(&inside), ["parked-jobs", "overdue-jobs", "discarded-jobs"]);
    assert!(message(&inside, "overdue-jobs").contains("`mail`"));
    assert!(message(&inside, "parked-jobs").contains("`elsewhere`"));
    let discarded = message(&inside, "discarded-jobs");
    assert!(discarded.contains("the mail server is away"), "{discarded}");
    drop(verger);
    // Nobody has the file open now; and from outside nobody knows the app's workers.
    let outside = site.examine();
    assert_eq!(wrong(&outside), ["no-process", "no-process", "discarded-jobs"]);
    assert!(outside.findings[0].mend.as_ref().unwrap().starts_with("verger start --db "));

    site.sql(
        "UPDATE verger_jobs SET state = 'executing', attempt = 1, token = 1, lease_until = 1 WHERE queue = 'mail'",
    );
    assert!(wrong(&site.examine()).contains(&"stuck-jobs"));
    let fixed = site.doctor().fix(Some("stuck-jobs")).unwrap();
    assert!(fixed[0].done.starts_with("1 jobs were taken back"), "{fixed:?}");
    assert!(!wrong(&site.examine()).contains(&"stuck-jobs"));
}

#[test]
fn schedules_that_make_no_jobs_are_told_why() {
    let site = Site::new();
    let verger = site.open();
    for (name, expression) in
        [("never", "0 0 29 2 *"), ("paused", "0 3 * * *"), ("late", "* * * * *")]
    {
        verger.add_schedule(&Schedule::cron(name, expression).unwrap().worker("fails")).unwrap();
    }
    verger.pause_schedule("paused").unwrap();
    site.sql(
        "UPDATE verger_schedules SET expression = '0 0 30 2 *', next_fire_at = NULL WHERE name = 'never'",
    );
    assert_eq!(wrong(&verger.doctor().unwrap()), ["schedule-never"]);
    site.clock.advance(Duration::from_secs(3_600));
    let late = verger.doctor().unwrap();
    assert_eq!(wrong(&late), ["schedule-never", "schedule-overdue"]);
    assert!(message(&late, "schedule-overdue").contains("nothing has ticked"));
    assert!(message(&late, "schedule-never").contains("would never fire"));
    assert!(message(&late, "schedule-paused").contains("paused"));

    // Its job stays unfinished, and the schedule forbids overlap.
    for _ in 0..5 {
        verger.tick(site.clock.now()).unwrap();
        site.clock.advance(Duration::from_secs(60));
    }
    let skips = verger.doctor().unwrap();
    assert!(message(&skips, "schedule-skips").contains("unfinished"), "{:?}", skips.findings);
    let queue = "UPDATE verger_schedules SET expression = 'whenever' WHERE name = 'late'";
    site.sql(queue);
    assert!(message(&verger.doctor().unwrap(), "schedule-never").contains("late"));
}

#[test]
fn a_wrong_clock_a_broken_log_and_rows_that_point_nowhere_show() {
    let site = Site::new();
    let verger = site.open();
    let event = verger::AuditEvent::success("thing.changed");
    verger.audit(&event).unwrap();
    drop(verger);
    site.sql("UPDATE verger_clock SET read_at = read_at + 864000000000");
    assert_eq!(wrong(&site.examine()), ["clock-behind"]);
    site.sql("UPDATE verger_clock SET before_jump = 1, jumped_at = 2");
    assert!(wrong(&site.examine()).contains(&"clock-jumped"));
    site.sql("DELETE FROM verger_clock");
    site.sql(
        "PRAGMA foreign_keys = OFF; CREATE TABLE parent (id INTEGER PRIMARY KEY);
         CREATE TABLE child (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES parent (id));
         INSERT INTO child VALUES (1, 7)",
    );
    assert_eq!(wrong(&site.examine()), ["foreign-keys"]);
    site.sql("DELETE FROM child; DROP TRIGGER verger_audit_no_update;");
    site.sql("UPDATE verger_audit SET action = 'other.thing'");
    assert_eq!(wrong(&site.examine()), ["schema-missing", "audit-broken"]);
}

#[cfg(unix)]
#[test]
fn a_file_that_everyone_may_write_is_told() {
    use std::os::unix::fs::PermissionsExt;
    let site = Site::new();
    let mode = |mode| {
        std::fs::set_permissions(site.path(), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(0o666);
    assert_eq!(wrong(&site.examine()), ["permissions"]);
    mode(0o444);
    assert_eq!(wrong(&site.examine()), ["permissions"]);
    mode(0o600);
    assert!(site.examine().is_well());
}

#[test]
fn jobs_for_a_newer_version_of_a_worker_are_told_apart_from_those_of_no_worker() {
    let site = Site::new();
    site.sql(
        "INSERT INTO verger_jobs (worker, args_version) VALUES ('fails', 3), ('fails', 3), ('fails', 1), ('nobody', 3)",
    );
    let found = site.open().doctor().unwrap();
    let parked: Vec<&str> = found
        .findings
        .iter()
        .filter(|finding| finding.code == "parked-jobs")
        .map(|finding| finding.message.as_str())
        .collect();
    assert_eq!(parked.len(), 2, "{parked:?}");
    let newer = "2 jobs wait for a newer version of it: their args are of version 3, and the worker here knows them up to version 1";
    assert!(
        parked.iter().any(|said| said.contains("`fails`") && said.contains(newer)),
        "{parked:?}"
    );
    assert!(
        parked
            .iter()
            .any(|said| said.contains("`nobody`") && said.contains("no worker of that name")),
        "{parked:?}"
    );
}
