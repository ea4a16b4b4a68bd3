//! A PostgreSQL server of the tests' own, on a socket in a folder of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use postgres::{Client, NoTls};

/// The server of the tests that run now. It stops with the last of them.
static RUNNING: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());

/// Numbers that keep databases apart.
static NEXT: AtomicU32 = AtomicU32::new(1);

pub(crate) struct Cluster {
    bin: PathBuf,
    folder: tempfile::TempDir,
}

/// A fresh database.
pub(crate) struct Database {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) name: String,
}

/// A fresh database, or `None` where there is no PostgreSQL. `VERGER_POSTGRES=require` demands it.
pub(crate) fn database() -> Option<Database> {
    let cluster = {
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        match running.upgrade() {
            Some(cluster) => cluster,
            None => {
                let cluster = Arc::new(Cluster::start(&[])?);
                *running = Arc::downgrade(&cluster);
                cluster
            }
        }
    };
    Some(cluster.database(""))
}

/// The programs of a server that is new enough.
pub(crate) fn programs() -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin"))
        .filter(|bin| bin.join("initdb").exists())
        .collect();
    found.sort();
    let found = std::env::var_os("VERGER_POSTGRES_BIN").map(PathBuf::from).or(found.pop());
    if found.is_none() {
        assert_ne!(
            std::env::var("VERGER_POSTGRES").as_deref(),
            Ok("require"),
            "there is no PostgreSQL here"
        );
        println!("skipped: there is no PostgreSQL here");
    }
    found
}

/// A command, not as root: the server refuses that.
pub(crate) fn as_postgres(program: &Path) -> Command {
    if cfg!(unix) && is_root() {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program);
        return command;
    }
    Command::new(program)
}

pub(crate) fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|id| id.stdout.starts_with(b"0\n"))
}

/// A folder that the server may write to, whose name is short enough for a socket.
pub(crate) fn new_folder() -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix("vg").tempdir_in("/tmp").unwrap();
    if is_root() {
        run(Command::new("chown").arg("postgres").arg(folder.path()));
    }
    folder
}

pub(crate) fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

impl Cluster {
    /// Starts a server with these settings, about 0.7 s. Its data need not outlive the tests.
    pub(crate) fn start(settings: &[&str]) -> Option<Self> {
        let cluster = Self { bin: programs()?, folder: new_folder() };
        cluster.initialise(&["-A", "trust"]);
        cluster.start_again(settings);
        Some(cluster)
    }

    /// The same, for clients that say a password.
    pub(crate) fn with_passwords(password: &str) -> Option<Self> {
        let cluster = Self { bin: programs()?, folder: new_folder() };
        let file = cluster.folder.path().join("password");
        std::fs::write(&file, password).unwrap();
        cluster.initialise(&["-A", "scram-sha-256", "--pwfile", &file.display().to_string()]);
        // `pg_ctl -w` and the client of the tests ask without one.
        let hba = cluster.folder.path().join("data/pg_hba.conf");
        std::fs::write(hba, "local postgres postgres trust\nlocal all all scram-sha-256\n")
            .unwrap();
        cluster.start_again(&[]);
        Some(cluster)
    }

    /// Makes its data. The words say how clients log in.
    fn initialise(&self, login: &[&str]) {
        let rest = ["-U", "postgres", "--no-sync", "-E", "UTF8", "--locale=C"];
        run(self.command("initdb").args(login).args(rest));
    }

    pub(crate) fn start_again(&self, settings: &[&str]) {
        let socket = self.socket();
        let mut options = format!(
            "-c listen_addresses= -c unix_socket_directories={socket} -c fsync=off -c max_connections=200"
        );
        for setting in settings {
            options.push_str(&format!(" -c {setting}"));
        }
        run(self.command("pg_ctl").args([
            "-w",
            "-l",
            &format!("{socket}/log"),
            "-o",
            &options,
            "start",
        ]));
    }

    /// A standby of it, whose answer every commit waits for from now on.
    pub(crate) fn standby(&self) -> Self {
        let standby = Self { bin: self.bin.clone(), folder: new_folder() };
        let from = self.socket();
        let data = format!("{}/data", standby.socket());
        let copy = ["-h", &from, "-U", "postgres", "-D", &data, "-R", "-c", "fast", "--no-sync"];
        run(self.command("pg_basebackup").args(copy));
        standby.start_again(&[]);
        let mut client = self.client();
        client.batch_execute("ALTER SYSTEM SET synchronous_standby_names = '*'").unwrap();
        client.batch_execute("SELECT pg_reload_conf()").unwrap();
        let sql = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
        let answers = || self.client().query_one(sql, &[]).unwrap().get::<_, i64>(0) == 1;
        let begun = Instant::now();
        while !answers() {
            assert!(begun.elapsed() < Duration::from_secs(30), "the standby does not answer");
            std::thread::sleep(Duration::from_millis(10));
        }
        standby
    }

    /// Makes the standby a primary.
    pub(crate) fn promote(&self) {
        run(self.command("pg_ctl").args(["-w", "promote"]));
    }

    /// Kills its first process without warning, as the machine's end does.
    pub(crate) fn kill(&self) {
        let path = self.folder.path().join("data/postmaster.pid");
        let process = std::fs::read_to_string(path).unwrap();
        run(Command::new("kill").args(["-9", process.lines().next().unwrap()]));
    }

    /// Stops it: `fast`, or `immediate` as a power cut does.
    pub(crate) fn stop(&self, mode: &str) {
        run(self.command("pg_ctl").args(["-w", "-m", mode, "stop"]));
    }

    fn command(&self, program: &str) -> Command {
        let mut command = as_postgres(&self.bin.join(program));
        command.env("PGDATA", self.folder.path().join("data")).stdin(std::process::Stdio::null());
        command
    }

    pub(crate) fn socket(&self) -> String {
        self.folder.path().display().to_string()
    }

    /// A client of the server's own database.
    pub(crate) fn client(&self) -> Client {
        let url = format!("host={} user=postgres dbname=postgres", self.socket());
        Client::connect(&url, NoTls).unwrap()
    }

    /// A fresh database, made with these words.
    pub(crate) fn database(self: &Arc<Self>, with: &str) -> Database {
        let name = format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.client().batch_execute(&format!("CREATE DATABASE {name} {with}")).unwrap();
        Database { cluster: Arc::clone(self), name }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A test may have stopped it.
        let _ = self.command("pg_ctl").args(["-m", "immediate", "stop"]).output();
    }
}

impl Database {
    pub(crate) fn url(&self) -> String {
        format!("host={} user=postgres dbname={}", self.cluster.socket(), self.name)
    }

    /// The same address, as one word.
    pub(crate) fn address(&self) -> String {
        let folder = self.cluster.socket().replace('/', "%2F");
        format!("postgres://postgres@{folder}/{}", self.name)
    }

    /// A client of the app's own.
    pub(crate) fn client(&self) -> Client {
        Client::connect(&self.url(), NoTls).unwrap()
    }

    /// The one value of a query.
    pub(crate) fn one<T: for<'a> postgres::types::FromSql<'a>>(&self, sql: &str) -> T {
        self.client().query_one(sql, &[]).unwrap().get(0)
    }
}
