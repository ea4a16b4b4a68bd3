//! Jobs enqueued inside the app's own transactions, on connections that Verger did not open.
#![allow(clippy::unwrap_used, unsafe_code, reason = "a test stops at the first surprise")]

use serde_json::json;
use verger::rusqlite::Connection;
use verger::{EnqueueError, JobFilter, NewJob, Verger};

fn job() -> NewJob {
    NewJob::new("cleanup-audit", json!({"retention_days": null}))
}

fn count(verger: &Verger) -> usize {
    verger.jobs(&JobFilter::default(), 10).unwrap().len()
}

#[test]
fn a_job_on_a_raw_handle_is_there_when_and_only_when_its_transaction_commits() {
    let folder = tempfile::tempdir().unwrap();
    let verger = Verger::builder(folder.path().join("app.db")).open().unwrap();
    let app = Connection::open(folder.path().join("app.db")).unwrap();
    for (ends, jobs) in [("ROLLBACK", 0), ("COMMIT", 1)] {
        app.execute_batch("BEGIN").unwrap();
        // SAFETY: the connection is open, and used by this thread alone.
        let enqueued = unsafe { verger.enqueue_raw(app.handle(), job()) };
        enqueued.unwrap();
        assert_eq!(count(&verger), 0, "before {ends}");
        app.execute_batch(ends).unwrap();
        assert_eq!(count(&verger), jobs, "after {ends}");
    }
    // It is still open.
    app.execute_batch("CREATE TABLE t (n)").unwrap();
}

#[test]
fn a_job_is_refused_on_a_connection_to_another_file() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let verger = Verger::builder(at("app.db")).open().unwrap();
    let _other = Verger::builder(at("other.db")).open().unwrap();
    for mut connection in
        [Connection::open(at("other.db")).unwrap(), Connection::open_in_memory().unwrap()]
    {
        let refused = verger.enqueue_in(&connection.transaction().unwrap(), job()).unwrap_err();
        assert!(matches!(refused, EnqueueError::OtherFile { .. }), "{refused}");
        assert!(refused.to_string().contains("app.db"), "{refused}");
    }
    // By another name it is the same file.
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(at("app.db"), at("link.db")).unwrap();
        let mut linked = Connection::open(at("link.db")).unwrap();
        let transaction = linked.transaction().unwrap();
        verger.enqueue_in(&transaction, job()).unwrap();
        transaction.commit().unwrap();
        assert_eq!(count(&verger), 1);
    }
}
