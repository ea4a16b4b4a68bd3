//! Notes in a window. Saving one enqueues its indexing in the same transaction. The page shows what
//! runs, how far it is, and what went wrong, and can cancel it.
#![cfg_attr(not(debug_assertions), windows_subsystem = "windows")]

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use serde_json::json;
use tauri::{Manager, RunEvent, State};
use verger::rusqlite::{Connection, TransactionBehavior};
use verger::verger_worker::prelude::*;
use verger::{Job, JobFilter, JobId, NewJob, TickLoop, Verger};

/// Counts the words of a note.
struct Index;

impl Worker for Index {
    fn manifest(&self) -> Manifest {
        Manifest::new("index", "1")
            .arg("note", ArgSpec::required())
            .table(TableAsk::named("notes").read().update())
    }

    fn perform(&self, job: &Context<'_>, _: Option<&Scope>, args: &Args) -> Result<Outcome, WorkerError> {
        let note: i64 = args.get("note")?;
        let row = job.query_row("SELECT text FROM notes WHERE id = ?1", params![note])?;
        let Some(mut row) = row else { return Ok(Outcome::Cancel("the note is gone".to_string())) };
        let text: String = row.take(0)?;
        let words: Vec<&str> = text.split_whitespace().collect();
        for done in 1..=words.len() {
            // As slow as a model that reads each word.
            std::thread::sleep(Duration::from_millis(200));
            job.progress(done as u64, words.len() as u64);
            job.checkpoint()?;
        }
        let count = words.len() as i64;
        job.execute("UPDATE notes SET words = ?1 WHERE id = ?2", params![count, note])?;
        Ok(Outcome::DoneWith(json!({ "words": count })))
    }
}

struct Notes {
    file: PathBuf,
    verger: Verger,
    ticking: Mutex<Option<TickLoop>>,
}

type Answer<T> = Result<T, String>;

fn connect(file: &Path) -> verger::rusqlite::Result<Connection> {
    let connection = Connection::open(file)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    Ok(connection)
}

fn save(notes: &Notes, text: &str) -> Result<(), Box<dyn std::error::Error>> {
    let mut connection = connect(&notes.file)?;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute("INSERT INTO notes (text) VALUES (?1)", [text])?;
    let job = NewJob::new("index", json!({ "note": transaction.last_insert_rowid() }));
    notes.verger.enqueue_in(&transaction, job)?;
    transaction.commit()?;
    Ok(())
}

// Off the window's thread: they wait for the file.
#[tauri::command(async)]
fn add_note(notes: State<'_, Notes>, text: String) -> Answer<()> {
    save(&notes, &text).map_err(|error| error.to_string())
}

#[tauri::command(async)]
fn jobs(notes: State<'_, Notes>) -> Answer<Vec<Job>> {
    notes.verger.jobs(&JobFilter::new(), 20).map_err(|error| error.to_string())
}

#[tauri::command(async)]
fn cancel(notes: State<'_, Notes>, job: i64) -> Answer<bool> {
    notes.verger.cancel(JobId::from_number(job)).map_err(|error| error.to_string())
}

fn open(file: PathBuf) -> Result<Notes, Box<dyn std::error::Error>> {
    let verger = Verger::builder(&file).worker(Index).open()?;
    connect(&file)?.execute_batch(
        "CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, text TEXT NOT NULL, words INTEGER)",
    )?;
    let ticking = Mutex::new(Some(verger.start()?));
    Ok(Notes { file, verger, ticking })
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let app = tauri::Builder::default()
        .setup(|app| {
            // The file named on the command line, or the user's own.
            let file = match std::env::args_os().nth(1) {
                Some(file) => PathBuf::from(file),
                None => {
                    let folder = app.path().app_data_dir()?;
                    std::fs::create_dir_all(&folder)?;
                    folder.join("notes.db")
                }
            };
            app.manage(open(file)?);
            Ok(())
        })
        .invoke_handler(tauri::generate_handler![add_note, jobs, cancel])
        .build(tauri::generate_context!())?;
    app.run(|app, event| {
        if let RunEvent::Exit = event {
            let ticking = app.try_state::<Notes>().and_then(|notes| notes.ticking.lock().ok()?.take());
            // A job that is not done by then goes back to the queue.
            if let Some(Err(error)) = ticking.map(|ticking| ticking.stop(Duration::from_secs(2))) {
                eprintln!("{error}");
            }
        }
    });
    Ok(())
}
