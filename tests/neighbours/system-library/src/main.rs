//! With the system's SQLite in place of the bundled one. It is used if it is new enough, and
//! otherwise refused with a sentence.

#[path = "../../common/jobs.rs"]
mod jobs;

use verger::verger_worker::serde_json::json;
use verger::{NewJob, OpenError, Verger, rusqlite};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("app.db");
    println!("SQLite {}", rusqlite::version());
    match Verger::builder(&file).open() {
        Ok(_) => {
            let app = jobs::App::open(&file);
            app.verger.enqueue(NewJob::new("count", json!({})))?;
            app.has_performed(1);
        }
        Err(error @ OpenError::Library { .. }) => {
            println!("{error}");
            assert!(error.to_string().contains(rusqlite::version()), "{error}");
            assert!(!file.exists(), "nothing is written");
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}
