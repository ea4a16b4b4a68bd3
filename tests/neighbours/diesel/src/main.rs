//! Beside diesel 2.3: jobs are enqueued inside diesel's own transactions, by the documented INSERT.

#[path = "../../common/jobs.rs"]
mod jobs;

use diesel::connection::SimpleConnection;
use diesel::result::Error;
use diesel::{Connection, RunQueryDsl, SqliteConnection, sql_query, sql_types::Text};

const JOBS: usize = 100;

/// What any client of SQLite can do in a transaction of its own: worker, args.
const ENQUEUE: &str = "INSERT INTO verger_jobs (worker, args) VALUES (?, ?)";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("app.db");
    let app = jobs::App::open(&file);
    let mut connection = SqliteConnection::establish(file.to_str().ok_or("a path in UTF-8")?)?;
    connection.batch_execute(
        "PRAGMA busy_timeout = 5000; CREATE TABLE orders (id INTEGER PRIMARY KEY)",
    )?;
    for commits in [false, true] {
        let ended = connection.immediate_transaction::<(), Error, _>(|connection| {
            sql_query("INSERT INTO orders DEFAULT VALUES").execute(connection)?;
            for _ in 0..JOBS {
                sql_query(ENQUEUE).bind::<Text, _>("count").bind::<Text, _>("{}").execute(connection)?;
            }
            if commits { Ok(()) } else { Err(Error::RollbackTransaction) }
        });
        assert_eq!(ended.is_ok(), commits, "{ended:?}");
    }
    app.has_performed(JOBS);
    Ok(())
}
