//! Components: each has a login role, which the server confines.

mod built_ins;
mod calls;
mod generated;
mod roles;
mod tenants;
mod walls;

use serde_json::{Value as Json, json};
use verger::postgres::{Builder, Verger};
use verger::{AttemptOutcome, Grant, JobId, NewJob};

use crate::clock;
use crate::cluster::{Database, database};
pub(crate) use crate::puppet::PUPPET;
use crate::puppet::puppet_as;

/// The tables that the puppet asks for, and one that it does not.
pub(crate) const TABLES: &str = "CREATE TABLE things (id bigserial PRIMARY KEY, name text NOT NULL, n bigint DEFAULT 0, CHECK (n >= 0)); \
         CREATE TABLE other (id bigint PRIMARY KEY, secret text); CREATE TABLE withheld (id bigint); \
         CREATE TABLE secrets (id bigint PRIMARY KEY, secret text); INSERT INTO secrets VALUES (1, 'hidden'); \
         INSERT INTO other VALUES (1, 'plain'); INSERT INTO withheld VALUES (1)";

/// A database with the tables that the puppet asks for, and one that it does not.
pub(super) fn with_tables() -> Option<Database> {
    let database = database()?;
    database.client().batch_execute(TABLES).unwrap();
    Some(database)
}

pub(crate) fn usual() -> Grant {
    Grant::new().write("things").read_columns("other", ["id"]).enqueue("noop")
}

pub(super) fn builder(database: &Database, grant: Grant) -> Builder {
    let clock = clock();
    Verger::builder(database.url()).component("puppet", PUPPET).grant("puppet", grant).clock(clock)
}

/// Runs the SQL that whoever may is given, and opens.
pub(super) fn open(database: &Database, builder: Builder) -> Verger {
    let sql = builder.role_grants().unwrap();
    // It can be run any number of times.
    for _ in 0..2 {
        database.client().batch_execute(&sql).unwrap_or_else(|error| panic!("{error:?} in\n{sql}"));
    }
    builder.open().unwrap()
}

pub(super) fn puppet(grant: Grant) -> Option<(Database, Verger)> {
    let database = with_tables()?;
    let verger = open(&database, builder(&database, grant));
    Some((database, verger))
}

/// Has the puppet do these steps, and returns its job and how the attempt ended.
pub(super) fn attempt(verger: &Verger, mut args: Json, steps: Json) -> (JobId, AttemptOutcome) {
    args["do"] = steps;
    let id = verger.enqueue(NewJob::new("puppet", args)).unwrap().id;
    let mut report = verger.tick(verger.now()).unwrap();
    let place = report.attempts.iter().position(|attempt| attempt.job == id).unwrap();
    (id, report.attempts.swap_remove(place).outcome)
}

/// The answers of steps that end well.
pub(super) fn answers(verger: &Verger, args: Json, steps: Json) -> Vec<Json> {
    match attempt(verger, args, steps).1 {
        AttemptOutcome::Completed(Some(Json::Array(answers))) => answers,
        outcome => panic!("{outcome:?}"),
    }
}

/// The answer of one step.
pub(crate) fn answer(verger: &Verger, step: Json) -> Json {
    answers(verger, json!({}), json!([step])).remove(0)
}

/// The puppet as a worker with this manifest.
pub(super) fn under(manifest: &Json) -> Vec<u8> {
    puppet_as(manifest)
}
