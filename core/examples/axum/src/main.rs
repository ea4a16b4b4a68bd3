//! A server whose requests leave work behind. An order is stored and its receipt enqueued in one
//! transaction, and the client can ask how far the job is.
//!
//! ```sh
//! cargo run --manifest-path core/examples/axum/Cargo.toml -- shop.db
//! curl -X POST localhost:3000/orders -H 'content-type: application/json' -d '{"mail": "a@b.example"}'
//! curl localhost:3000/jobs/1
//! ```
//!
//! Verger is synchronous, so code that reads or writes the file runs in `spawn_blocking`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use axum::extract::{Path as UrlPath, State};
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use verger::rusqlite::{Connection, TransactionBehavior};
use verger::verger_worker::prelude::*;
use verger::{JobId, NewJob, Queue, Verger};

struct SendReceipt;

impl Worker for SendReceipt {
    fn manifest(&self) -> Manifest {
        Manifest::new("send-receipt", "1")
            .arg("order", ArgSpec::required())
            .table(TableAsk::named("orders").read().update())
    }

    fn perform(&self, job: &Context<'_>, _: Option<&Scope>, args: &Args) -> Result<Outcome, WorkerError> {
        let order: i64 = args.get("order")?;
        // The mail goes out here. A second attempt finds the mark and sends nothing.
        let now = job.now();
        job.execute("UPDATE orders SET receipt_at = ?1 WHERE id = ?2 AND receipt_at IS NULL", params![now, order])?;
        Ok(Outcome::Done)
    }
}

#[derive(Clone)]
struct Shop {
    file: PathBuf,
    verger: Verger,
}

#[derive(Deserialize)]
struct Order {
    mail: String,
}

type Answer = Result<Json<Value>, (StatusCode, String)>;

fn failed(error: impl std::fmt::Display) -> (StatusCode, String) {
    (StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}

fn connect(file: &Path) -> verger::rusqlite::Result<Connection> {
    let connection = Connection::open(file)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    Ok(connection)
}

/// The order and its job: both or neither.
fn place(shop: &Shop, order: &Order) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
    let mut connection = connect(&shop.file)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute("INSERT INTO orders (mail) VALUES (?1)", [&order.mail])?;
    let id = transaction.last_insert_rowid();
    let job = NewJob::new("send-receipt", json!({ "order": id })).queue("mail");
    let enqueued = shop.verger.enqueue_in(&transaction, job)?;
    transaction.commit()?;
    Ok(json!({ "order": id, "job": enqueued.id }))
}

async fn place_order(State(shop): State<Shop>, Json(order): Json<Order>) -> Answer {
    let placed = tokio::task::spawn_blocking(move || place(&shop, &order)).await;
    Ok(Json(placed.map_err(failed)?.map_err(failed)?))
}

async fn show_job(State(shop): State<Shop>, UrlPath(id): UrlPath<i64>) -> Answer {
    let found = tokio::task::spawn_blocking(move || shop.verger.job(JobId::from_number(id))).await;
    match found.map_err(failed)?.map_err(failed)? {
        Some(job) => Ok(Json(serde_json::to_value(job).map_err(failed)?)),
        None => Err((StatusCode::NOT_FOUND, format!("there is no job {id}"))),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "shop.db".to_string()));
    // Four receipts at a time.
    let queue = Queue::new("mail").concurrency(4);
    let verger = Verger::builder(&file).worker(SendReceipt).queue(queue).open()?;
    connect(&file)?.execute_batch(
        "CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, mail TEXT NOT NULL, receipt_at INTEGER)",
    )?;
    let ticking = verger.start()?;
    let app = Router::new()
        .route("/orders", post(place_order))
        .route("/jobs/{id}", get(show_job))
        .with_state(Shop { file, verger });
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 3000)).await?;
    axum::serve(listener, app)
        .with_graceful_shutdown(async {
            let _ = tokio::signal::ctrl_c().await;
        })
        .await?;
    tokio::task::spawn_blocking(move || ticking.stop(Duration::from_secs(5))).await??;
    Ok(())
}
