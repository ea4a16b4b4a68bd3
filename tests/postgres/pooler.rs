//! PgBouncer between Verger and the server: whole sessions are as good as none, transactions are
//! refused.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use verger::postgres::Verger;
use verger::{JobState, NewJob};

use crate::cluster::{Database, as_postgres, database, new_folder, run};
use crate::{effect, effects, until};

const PROGRAM: &str = "/usr/sbin/pgbouncer";

/// A PgBouncer in front of one database.
struct Pooler {
    folder: tempfile::TempDir,
    database: String,
}

impl Pooler {
    /// Starts it in this mode, with so many connections to the server. `None` where it is not
    /// installed.
    fn start(database: &Database, mode: &str, connections: usize) -> Option<Self> {
        if !Path::new(PROGRAM).exists() {
            println!("skipped: there is no PgBouncer here");
            return None;
        }
        let folder = new_folder();
        let path = folder.path().display();
        let settings = format!(
            "[databases]\n{name} = host={server} dbname={name} user=postgres pool_size={connections}\n\
             [pgbouncer]\nlisten_addr =\nlisten_port = 5432\nunix_socket_dir = {path}\nauth_type = any\n\
             pool_mode = {mode}\nlogfile = {path}/log\npidfile = {path}/pid\n",
            name = database.name,
            server = database.cluster.socket(),
        );
        let file = folder.path().join("pgbouncer.ini");
        std::fs::write(&file, settings).unwrap();
        let mut command = as_postgres(Path::new(PROGRAM));
        command.args(["-q", "-d"]).arg(&file).stdin(Stdio::null());
        // What it leaves behind would keep these open.
        run(command.stdout(Stdio::null()).stderr(Stdio::null()));
        let pooler = Self { folder, database: database.name.clone() };
        until("it listens", || pooler.folder.path().join(".s.PGSQL.5432").exists());
        Some(pooler)
    }

    fn url(&self) -> String {
        let socket = self.folder.path().display();
        format!("host={socket} user=postgres dbname={}", self.database)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        if let Ok(process) = std::fs::read_to_string(self.folder.path().join("pid")) {
            let _ = Command::new("kill").args(["-9", process.trim()]).status();
        }
    }
}

#[test]
fn a_pooler_of_transactions_is_refused_with_a_sentence() {
    let Some(database) = database() else { return };
    for connections in [20, 1] {
        let Some(pooler) = Pooler::start(&database, "transaction", connections) else { return };
        let begun = Instant::now();
        let said = Verger::builder(pooler.url()).worker(effect()).open().unwrap_err().to_string();
        println!("{connections}: after {:.1?}: {said}", begun.elapsed());
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        assert!(said.contains("connect to the server itself") && !said.contains('\n'), "{said}");
        let schemas = "SELECT count(*) FROM pg_namespace WHERE nspname = 'verger'";
        assert_eq!(database.one::<i64>(schemas), 0);
    }
}

#[test]
fn a_pooler_of_sessions_is_as_good_as_none() {
    let Some(database) = database() else { return };
    let Some(pooler) = Pooler::start(&database, "session", 20) else { return };
    drop(effects(&database));
    let verger = Verger::builder(pooler.url()).worker(effect()).open().unwrap();
    let working = verger.start().unwrap();
    let jobs = (0..20).map(|n| NewJob::new("effect", json!({"n": n})));
    let jobs = verger.enqueue_all(jobs).unwrap();
    let is_done = |id| verger.job(id).unwrap().unwrap().state == JobState::Completed;
    until("all are done", || jobs.iter().all(|job| is_done(job.id)));
    working.stop(Duration::from_secs(5)).unwrap();
    assert_eq!(database.one::<i64>("SELECT count(*) FROM effects"), 20);
    assert_eq!(verger.verify_audit().unwrap().rows, 20);
}

#[test]
fn a_pool_of_too_few_sessions_is_refused_with_a_sentence() {
    let Some(database) = database() else { return };
    let Some(pooler) = Pooler::start(&database, "session", 1) else { return };
    let begun = Instant::now();
    let said = Verger::builder(pooler.url()).worker(effect()).open().unwrap_err().to_string();
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert!(said.contains("no second connection"), "{said}");
}
