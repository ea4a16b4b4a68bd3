//! Beside the lowest and the highest version of rusqlite that Verger takes: jobs are enqueued inside
//! the app's own transactions.

mod jobs;

use verger::verger_worker::serde_json::json;
use verger::{NewJob, rusqlite};

const JOBS: usize = 1_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("app.db");
    let app = jobs::App::open(&file);
    let mut connection = rusqlite::Connection::open(&file)?;
    println!("SQLite {}", rusqlite::version());
    connection.execute_batch("CREATE TABLE orders (id INTEGER PRIMARY KEY)")?;
    for commits in [false, true] {
        let transaction = connection.transaction()?;
        transaction.execute("INSERT INTO orders DEFAULT VALUES", [])?;
        for _ in 0..JOBS {
            app.verger.enqueue_in(&transaction, NewJob::new("count", json!({})))?;
        }
        if commits { transaction.commit()? } else { transaction.rollback()? }
    }
    app.has_performed(JOBS);
    Ok(())
}
