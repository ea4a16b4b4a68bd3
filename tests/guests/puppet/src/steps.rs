//! The steps, by name.

use serde_json::{Value as Json, json};

use crate::misdeeds;
use crate::values::{answer, events, jobs, params, rows, text, to_json, value};
use crate::verger::worker::log::Level;
use crate::verger::worker::store::{Cursor, Savepoint};
use crate::verger::worker::types::Error;
use crate::verger::worker::{
    audit, clock, events as messages, host, job, log, queue, state, store,
};
use crate::{Outcome, Scope};

/// What it holds: cursors and savepoints go by their place, from 0.
pub struct Hands {
    scope: Option<Scope>,
    cursors: Vec<Option<Cursor>>,
    savepoints: Vec<Savepoint>,
}

impl Hands {
    pub fn new(scope: Option<Scope>) -> Self {
        Self { scope, cursors: Vec::new(), savepoints: Vec::new() }
    }

    /// The step's answer, or the end of the attempt.
    pub fn perform(&mut self, step: &Json) -> Result<Json, Outcome> {
        let number = |place: usize| step[place].as_u64().unwrap_or(0);
        match step[0].as_str().unwrap_or_default() {
            "done" => Err(Outcome::Done),
            "done-with" => Err(Outcome::DoneWith(text(&step[1]))),
            // Of its own code, when it has one.
            "failed" => Err(failed(step[2].as_str().unwrap_or("failed"), text(&step[1]))),
            "discard" => Err(Outcome::Discard(Error {
                code: step[2].as_str().unwrap_or("failed").to_string(),
                message: text(&step[1]),
            })),
            "snooze" => Err(Outcome::Snooze(number(1) as u32)),
            "cancel" => Err(Outcome::Cancel(text(&step[1]))),
            "trap" => core::arch::wasm32::unreachable(),
            "spin" => misdeeds::spin(),
            "recurse" => Ok(json!({ "ok": misdeeds::recurse(0.0) })),
            "recurse-in-memory" => Ok(json!({ "ok": misdeeds::recurse_in_memory(0) })),
            "grow" => Ok(json!({ "ok": misdeeds::grow() })),
            "eat" => misdeeds::eat(),
            // The step inside must not be refused, or the attempt fails.
            "must" => {
                let answer = self.perform(&step[1])?;
                if answer["err"].is_null() {
                    Ok(answer)
                } else {
                    Err(failed(&text(&answer["err"]), text(&answer["message"])))
                }
            }
            // The step inside so many times: the last answer.
            "repeat" => (0..number(1)).try_fold(Json::Null, |_, _| self.perform(&step[2])),
            // Host calls until someone asks the job to stop.
            "until-cancelled" => {
                while !job::is_cancelled() {}
                Ok(json!({ "ok": null }))
            }
            // Host calls until the host has enough.
            "until-refused" => loop {
                let answer = self.perform(&step[1])?;
                if !answer["err"].is_null() {
                    return Ok(answer);
                }
            },
            _ => Ok(answer(self.call(step))),
        }
    }

    /// The calls of the host, one to one.
    fn call(&mut self, step: &Json) -> Result<Json, Error> {
        let sql = || text(&step[1]);
        let place = || step[1].as_u64().unwrap_or(0) as usize;
        let number = |place: usize| step[place].as_u64().unwrap_or(0);
        match step[0].as_str().unwrap_or_default() {
            "execute" => store::execute(&sql(), &params(&step[2])).map(Json::from),
            "execute-many" => {
                let sets: Vec<_> = step[2]
                    .as_array()
                    .map(|sets| sets.iter().map(params).collect())
                    .unwrap_or_default();
                let results = store::execute_many(&sql(), &sets)?;
                Ok(results.into_iter().map(|result| answer(result.map(Json::from))).collect())
            }
            "query" => {
                let cursor = store::query(&sql(), &params(&step[2]))?;
                cursor.next(u32::MAX).map(rows)
            }
            "open" => {
                self.cursors.push(Some(store::query(&sql(), &params(&step[2]))?));
                Ok((self.cursors.len() - 1).into())
            }
            "columns" => Ok(self.cursor(place()).columns().into()),
            "next" => self.cursor(place()).next(number(2) as u32).map(rows),
            "close" => {
                self.cursors[place()] = None;
                Ok(Json::Null)
            }
            "savepoint" => {
                self.savepoints.push(store::begin_savepoint()?);
                Ok((self.savepoints.len() - 1).into())
            }
            "release" => self.savepoints[place()].release().map(Json::from),
            "rollback" => self.savepoints[place()].rollback().map(Json::from),
            "checkpoint" => store::checkpoint().map(Json::from),
            "checkpoint-due" => Ok(store::checkpoint_due().into()),
            "audit" => audit::append(&events(&step[1])).map(Json::from),
            "audit-safe" => Ok(audit::append_safe(&events(&step[1])).into()),
            "now" => Ok(clock::now().into()),
            "publish" => messages::publish(&sql(), &text(&step[2])).map(Json::from),
            "call" => host::call(&sql(), &text(&step[2])).map(Json::from),
            "log" => {
                log::write(level(&step[1]), &text(&step[2]));
                Ok(Json::Null)
            }
            "progress" => {
                job::progress(number(1) as u32, number(2) as u32);
                Ok(Json::Null)
            }
            "query-all" => {
                let table = store::query_all(&sql(), &params(&step[2]))?;
                Ok(json!({ "columns": table.columns, "rows": rows(table.rows) }))
            }
            "enqueue" => {
                let enqueued = queue::enqueue(&jobs(&step[1]))?;
                Ok(enqueued.into_iter().map(|job| json!([job.id, job.existing])).collect())
            }
            "state" => state::get(&sql()).map(to_json),
            "set-state" => state::set(&sql(), &value(&step[2])).map(Json::from),
            "is-cancelled" => Ok(job::is_cancelled().into()),
            "job" => Ok(json!({
                "id": job::id(),
                "attempt": job::attempt(),
                "max_attempts": job::max_attempts(),
                "deadline": job::deadline(),
                "scheduled": job::scheduled().map(|slot| json!({
                    "schedule": slot.schedule, "at": slot.at, "missed": slot.missed, "after": slot.after, "zone": slot.zone
                })),
            })),
            "scope" => Ok(self.scope.as_ref().map_or(Json::Null, |scope| {
                json!({
                    "organization_id": scope.organization_id,
                    "actor_id": scope.actor_id,
                    "impersonating_from": scope.impersonating_from,
                })
            })),
            other => {
                Err(Error { code: "puppet".into(), message: format!("it knows no step {other:?}") })
            }
        }
    }

    fn cursor(&self, place: usize) -> &Cursor {
        match &self.cursors[place] {
            Some(cursor) => cursor,
            None => core::arch::wasm32::unreachable(),
        }
    }
}

/// A failure with this code.
pub fn failed(code: &str, message: String) -> Outcome {
    Outcome::Failed(Error { code: code.to_string(), message })
}

fn level(json: &Json) -> Level {
    match json.as_str() {
        Some("trace") => Level::Trace,
        Some("debug") => Level::Debug,
        Some("warn") => Level::Warn,
        Some("error") => Level::Error,
        _ => Level::Info,
    }
}
