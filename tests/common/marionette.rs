//! The puppet in plain Rust: the same steps, the same answers.

use serde_json::{Value as Json, json};
use verger::verger_worker::prelude::*;
use verger::verger_worker::{Cursor, EventOutcome, Savepoint};

pub(crate) struct Marionette;

impl Worker for Marionette {
    fn manifest(&self) -> Manifest {
        Manifest::new("puppet", "0.1.0")
            .arg("do", ArgSpec::default_value(json!([])))
            .table(TableAsk::named("things").read().insert().update().delete())
            .table(TableAsk::named("other").read())
            .table(TableAsk::named("withheld").read())
            .capability("echo")
            .capability("broken")
            .capability("absent")
            .enqueues("noop")
            .enqueues("other-worker")
            .enqueues("withheld-worker")
    }

    fn perform(
        &self,
        job: &Context<'_>,
        scope: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        let steps: Vec<Json> = args.get("do")?;
        if steps.is_empty() {
            return Ok(Outcome::Done);
        }
        let mut strings = Strings { job, scope, cursors: Vec::new(), savepoints: Vec::new() };
        let mut answers = Vec::new();
        for step in &steps {
            match strings.pull(step) {
                Ok(answer) => answers.push(answer),
                Err(outcome) => return Ok(outcome),
            }
        }
        // A component that leaves a savepoint open keeps what was written; so does this.
        strings.savepoints.into_iter().flatten().for_each(std::mem::forget);
        Ok(Outcome::DoneWith(answers.into()))
    }
}

struct Strings<'a> {
    job: &'a Context<'a>,
    scope: Option<&'a Scope>,
    cursors: Vec<Option<Cursor<'a>>>,
    savepoints: Vec<Option<Savepoint<'a>>>,
}

impl Strings<'_> {
    fn pull(&mut self, step: &Json) -> Result<Json, Outcome> {
        let number = |place: usize| step[place].as_u64().unwrap_or(0);
        match step[0].as_str().unwrap_or_default() {
            "done" => Err(Outcome::Done),
            "done-with" => Err(Outcome::DoneWith(serde_json::from_str(&text(&step[1])).unwrap())),
            "failed" => Err(Outcome::Failed(own(step))),
            "discard" => Err(Outcome::Discard(own(step))),
            "snooze" => Err(Outcome::Snooze(number(1) as u32)),
            "cancel" => Err(Outcome::Cancel(text(&step[1]))),
            "trap" => panic!("the native puppet panics, as the test wants"),
            "must" => {
                let answer = self.pull(&step[1])?;
                match answer["err"].is_null() {
                    true => Ok(answer),
                    false => {
                        let error = HostError::new(&text(&answer["err"]), text(&answer["message"]));
                        Err(Outcome::Failed(error.into()))
                    }
                }
            }
            "repeat" => (0..number(1)).try_fold(Json::Null, |_, _| self.pull(&step[2])),
            "until-cancelled" => {
                while !self.job.is_cancelled() {}
                Ok(json!({ "ok": null }))
            }
            "until-refused" => loop {
                let answer = self.pull(&step[1])?;
                if !answer["err"].is_null() {
                    return Ok(answer);
                }
            },
            _ => Ok(answer(self.call(step))),
        }
    }

    fn call(&mut self, step: &Json) -> Result<Json, HostError> {
        let (job, sql) = (self.job, text(&step[1]));
        let place = step[1].as_u64().unwrap_or(0) as usize;
        let number = |place: usize| step[place].as_u64().unwrap_or(0);
        Ok(match step[0].as_str().unwrap_or_default() {
            "execute" => job.execute(&sql, params(&step[2]))?.into(),
            "execute-many" => {
                let sets: Vec<_> = step[2].as_array().unwrap().iter().map(params).collect();
                job.execute_many(&sql, &sets)?
                    .into_iter()
                    .map(|result| answer(result.map(Json::from)))
                    .collect()
            }
            "query" => rows(job.query(&sql, params(&step[2]))?.next_chunk(u32::MAX)?),
            "open" => {
                self.cursors.push(Some(job.query(&sql, params(&step[2]))?));
                (self.cursors.len() - 1).into()
            }
            "columns" => self.cursors[place].as_ref().unwrap().columns().into(),
            "next" => rows(self.cursors[place].as_mut().unwrap().next_chunk(number(2) as u32)?),
            "close" => {
                self.cursors[place] = None;
                Json::Null
            }
            "savepoint" => {
                self.savepoints.push(Some(job.savepoint()?));
                (self.savepoints.len() - 1).into()
            }
            // The type lets nobody end one twice; the component is told so.
            "release" | "rollback" => match self.savepoints[place].take() {
                None => return Err(HostError::new("closed", "the savepoint is closed")),
                Some(savepoint) if step[0] == "release" => savepoint.release().map(Json::from)?,
                Some(savepoint) => savepoint.rollback().map(Json::from)?,
            },
            "checkpoint" => job.checkpoint().map(Json::from)?,
            "checkpoint-due" => job.checkpoint_due().into(),
            "audit" => job.audit_all(&events(&step[1]))?.into(),
            "audit-safe" => job.audit_safe(&events(&step[1])).into(),
            "now" => job.now().into(),
            "publish" => {
                let payload = serde_json::from_str(&text(&step[2])).map_err(|error| {
                    HostError::new("invalid", format!("the payload is no JSON: {error}"))
                })?;
                job.publish(&sql, &payload).map(Json::from)?
            }
            "call" => {
                let request = serde_json::from_str(&text(&step[2])).map_err(|error| {
                    HostError::new(
                        "invalid",
                        format!("the request to capability `{sql}` is no JSON: {error}"),
                    )
                })?;
                job.call(&sql, &request)?.to_string().into()
            }
            "log" => {
                let level = match step[1].as_str() {
                    Some("trace") => LogLevel::Trace,
                    Some("debug") => LogLevel::Debug,
                    Some("warn") => LogLevel::Warn,
                    Some("error") => LogLevel::Error,
                    _ => LogLevel::Info,
                };
                job.log(level, &text(&step[2]));
                Json::Null
            }
            "progress" => {
                job.progress(number(1), number(2));
                Json::Null
            }
            "query-all" => {
                let found = job.query_all(&sql, params(&step[2]))?;
                let columns = found.first().map(|row| row.columns().to_vec()).unwrap_or_default();
                json!({ "columns": columns, "rows": rows(found) })
            }
            "enqueue" => {
                let enqueued = job.enqueue_all(&jobs(&step[1])?)?;
                enqueued.iter().map(|job| json!([job.id, job.existing])).collect()
            }
            "state" => to_json(&job.state(&sql)?),
            "set-state" => job.set_state(&sql, value(&step[2])).map(Json::from)?,
            "is-cancelled" => job.is_cancelled().into(),
            "job" => {
                let job = job.job();
                let slot = job.scheduled.map(
                    |slot| json!({"schedule": slot.schedule, "at": slot.at, "missed": slot.missed, "after": slot.after, "zone": slot.zone}),
                );
                json!({"id": job.id, "attempt": job.attempt, "max_attempts": job.max_attempts, "deadline": job.deadline, "scheduled": slot})
            }
            "scope" => self.scope.map_or(Json::Null, |scope| {
                json!({
                    "organization_id": scope.organization_id(),
                    "actor_id": scope.actor_id(),
                    "impersonating_from": scope.impersonating_from(),
                })
            }),
            other => panic!("no step {other:?}"),
        })
    }
}

/// A failure of its own code, when it has one.
fn own(step: &Json) -> WorkerError {
    WorkerError::new(text(&step[1])).with_code(step[2].as_str().unwrap_or("failed"))
}

/// `[worker, args, options]` each, or so many times the same.
fn jobs(json: &Json) -> Result<Vec<NewJob>, HostError> {
    let job = |json: &Json| {
        let part = |place: usize| match &json[place] {
            Json::Null => Ok(json!({})),
            Json::String(text) => serde_json::from_str(text)
                .map_err(|error| HostError::new("invalid", format!("are no JSON: {error}"))),
            part => Ok(part.clone()),
        };
        let options = part(2)?.as_object().cloned();
        let options =
            options.ok_or_else(|| HostError::new("invalid", "the options are no JSON object"))?;
        Ok(NewJob::with_options(text(&json[0]), part(1)?, options))
    };
    match json["times"].as_u64() {
        Some(times) => Ok(vec![job(&json["job"])?; times as usize]),
        None => json.as_array().unwrap().iter().map(job).collect(),
    }
}

fn text(json: &Json) -> String {
    match json["x"].as_u64() {
        Some(length) => "x".repeat(length as usize),
        None => json.as_str().map_or_else(|| json.to_string(), str::to_string),
    }
}

fn params(json: &Json) -> Vec<Value> {
    json.as_array().map(|items| items.iter().map(value).collect()).unwrap_or_default()
}

fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(yes) => Value::from(*yes),
        Json::Number(number) => {
            number.as_i64().map_or_else(|| Value::from(number.as_f64().unwrap()), Value::from)
        }
        Json::String(text) => Value::from(text),
        other => match (other["blob"].as_array(), other["real"].as_str()) {
            (Some(bytes), _) => Value::from(
                bytes.iter().map(|byte| byte.as_u64().unwrap() as u8).collect::<Vec<_>>(),
            ),
            (None, Some(real)) => Value::from(beyond(real)),
            (None, None) => Value::from(text(other)),
        },
    }
}

/// The numbers that JSON does not have.
fn beyond(name: &str) -> f64 {
    match name {
        "inf" => f64::INFINITY,
        "-inf" => f64::NEG_INFINITY,
        _ => f64::NAN,
    }
}

fn rows(rows: Vec<Row>) -> Json {
    rows.iter().map(|row| row.values().iter().map(to_json).collect::<Json>()).collect()
}

fn to_json(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Integer(number) => (*number).into(),
        Value::Real(number) => (*number).into(),
        Value::Text(text) => text.as_str().into(),
        Value::Blob(bytes) => json!({ "blob": bytes }),
    }
}

fn answer(result: Result<Json, HostError>) -> Json {
    match result {
        Ok(value) => json!({ "ok": value }),
        Err(error) => json!({ "err": error.code, "message": error.message }),
    }
}

fn events(json: &Json) -> Vec<AuditEvent> {
    json.as_array().unwrap().iter().map(event).collect()
}

fn event(json: &Json) -> AuditEvent {
    let field = |name: &str| (!json[name].is_null()).then(|| text(&json[name]));
    let outcome = match json["outcome"].as_str() {
        Some("failure") => EventOutcome::Failure,
        Some("error") => EventOutcome::Error,
        _ => EventOutcome::Success,
    };
    let mut event =
        AuditEvent::new(text(&json["action"]), outcome).organization(field("organization_id"));
    event.subject_type = field("subject_type");
    event.subject_id = field("subject_id");
    event.before = field("before");
    event.after = field("after");
    event.metadata = field("metadata");
    event
}
