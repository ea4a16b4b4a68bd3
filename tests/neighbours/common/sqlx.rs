//! Beside sqlx, 0.8 and 0.9: jobs are enqueued inside sqlx's own transactions, on the same file.
#![allow(unsafe_code, reason = "sqlx hands out its connection as a raw handle")]

mod jobs;

use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use verger::NewJob;
use verger::verger_worker::serde_json::json;

const JOBS: usize = 1_000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), sqlx::Error> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("app.db");
    let app = jobs::App::open(&file);
    let options = SqliteConnectOptions::new().filename(&file);
    let pool = SqlitePoolOptions::new().max_connections(2).connect_with(options).await?;
    sqlx::query("CREATE TABLE orders (id INTEGER PRIMARY KEY)").execute(&pool).await?;
    for commits in [false, true] {
        let mut transaction = pool.begin().await?;
        sqlx::query("INSERT INTO orders DEFAULT VALUES").execute(&mut *transaction).await?;
        {
            let mut handle = transaction.lock_handle().await?;
            for _ in 0..JOBS {
                let raw = handle.as_raw_handle().as_ptr().cast();
                // SAFETY: sqlx's thread leaves the connection alone while its handle is locked.
                let enqueued = unsafe { app.verger.enqueue_raw(raw, NewJob::new("count", json!({}))) };
                enqueued.expect("enqueue inside sqlx's transaction");
            }
        }
        if commits { transaction.commit().await? } else { transaction.rollback().await? }
    }
    let orders: i64 = sqlx::query_scalar("SELECT count(*) FROM orders").fetch_one(&pool).await?;
    assert_eq!(orders, 1);
    app.has_performed(JOBS);
    Ok(())
}
