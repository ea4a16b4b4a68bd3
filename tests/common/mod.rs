//! The puppet, as a component and as plain Rust, on three tables.
#![allow(dead_code, unused_imports, reason = "each test binary uses its own part")]

pub(crate) mod chronicle;
#[cfg(unix)]
pub(crate) mod faulty;
mod marionette;
pub(crate) mod processes;
mod puppet;

use serde_json::{Value as Json, json};
use verger::testing::TestVerger;
use verger::{Builder, Grant, Job, JobId, NewJob, PerformError};

pub(crate) use marionette::Marionette;
pub(crate) use puppet::{PUPPET, puppet_as};

/// `value` has no type: it keeps the class it was given.
pub(crate) const TABLES: &str =
    "CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT CHECK (name <> 'bad'), value);
    CREATE TABLE other (id INTEGER PRIMARY KEY, secret TEXT);
    INSERT INTO other VALUES (1, 'o');
    CREATE TABLE withheld (id INTEGER PRIMARY KEY);";

/// Less than the puppet asks for: not the table `withheld`.
pub(crate) fn grant() -> Grant {
    Grant::new()
        .write("things")
        .read_columns("other", ["id"])
        .capability("echo")
        .capability("broken")
        .capability("absent")
}

/// Which code performs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Component,
    Native,
}

pub(crate) const BOTH: [Kind; 2] = [Kind::Component, Kind::Native];

impl Kind {
    pub(crate) fn add(self, builder: Builder, grant: Grant) -> Builder {
        let builder = match self {
            Self::Component => builder.component("puppet.wasm", PUPPET),
            Self::Native => builder.worker(Marionette),
        };
        builder
            .grant("puppet", grant)
            .without_built_ins()
            .capability("echo", |call| {
                Ok(json!({"request": call.request, "worker": call.worker, "job": call.job}))
            })
            .capability("broken", |call| match call.request["how"].as_str() {
                // A panic without the lines that the hook prints between those of the tables.
                Some("panics") => {
                    std::panic::resume_unwind(Box::new("the capability panics, as the test wants"))
                }
                _ => Err("no mail server".to_string()),
            })
    }

    pub(crate) fn open_with(self, grant: Grant) -> TestVerger {
        let test = TestVerger::with(|builder| self.add(builder, grant));
        test.sql(TABLES);
        test
    }

    pub(crate) fn open(self) -> TestVerger {
        self.open_with(grant())
    }
}

/// A component puppet on its tables.
pub(crate) fn puppet() -> TestVerger {
    Kind::Component.open()
}

/// A job for the puppet.
pub(crate) fn job(steps: Json) -> NewJob {
    NewJob::new("puppet", json!({ "do": steps }))
}

/// What a puppet that is called directly answers.
#[track_caller]
pub(crate) fn answers(test: &TestVerger, steps: Json) -> Json {
    match test.perform_job("puppet", json!({ "do": steps })) {
        Ok(performed) => performed.result().cloned().unwrap_or_default(),
        Err(error) => panic!("the puppet failed: {error}"),
    }
}

/// The code and the message with which a puppet that is called directly fails.
#[track_caller]
pub(crate) fn failure(test: &TestVerger, steps: Json) -> (String, String) {
    match test.perform_job("puppet", json!({ "do": steps })) {
        Err(PerformError::Failed { source, .. }) => (source.code, source.message),
        other => panic!("the puppet did not fail: {other:?}"),
    }
}

/// Enqueues a job and lets it be performed.
#[track_caller]
pub(crate) fn run(test: &TestVerger, job: NewJob) -> Job {
    let id = test.enqueue(job).unwrap().id;
    test.drain();
    row(test, id)
}

#[track_caller]
pub(crate) fn row(test: &TestVerger, id: JobId) -> Job {
    test.job(id).unwrap().unwrap()
}

/// The last error of a job: code and message.
#[track_caller]
pub(crate) fn last_error(job: &Job) -> (&str, &str) {
    let error = job.errors.last().unwrap();
    (&error.code, &error.message)
}

/// That whatever happened before, the next job is performed.
#[track_caller]
pub(crate) fn goes_on(test: &TestVerger) {
    let next =
        run(test, job(json!([["execute", "INSERT INTO things (name) VALUES ('after')", []]])));
    assert_eq!(next.result, Some(json!([{"ok": 1}])), "{next:?}");
}

/// What a puppet that is called directly answers, or its failure as one more answer.
pub(crate) fn failure_or_answers(test: &TestVerger, steps: Json) -> Json {
    match test.perform_job("puppet", json!({ "do": steps })) {
        Ok(performed) => performed.result().cloned().unwrap_or_default(),
        Err(error) => json!([error.to_string()]),
    }
}
