//! Values in JSON: a blob is `{"blob": [1, 2]}`, a long text `{"x": 1000000}`, a number JSON does
//! not have `{"real": "-inf"}`, the other classes are themselves.

use serde_json::{Value as Json, json};

use crate::verger::worker::audit::{Event, EventOutcome};
use crate::verger::worker::queue::NewJob;
use crate::verger::worker::types::{Error, Value};

/// A text, spelled out or as so many `x`.
pub fn text(json: &Json) -> String {
    match json["x"].as_u64() {
        Some(length) => "x".repeat(length as usize),
        None => json.as_str().map_or_else(|| json.to_string(), str::to_string),
    }
}

pub fn params(json: &Json) -> Vec<Value> {
    json.as_array().map(|items| items.iter().map(value).collect()).unwrap_or_default()
}

pub fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(yes) => Value::Integer((*yes).into()),
        Json::Number(number) => number
            .as_i64()
            .map_or_else(|| Value::Real(number.as_f64().unwrap_or(f64::NAN)), Value::Integer),
        Json::String(text) => Value::Text(text.clone()),
        other => match (other["blob"].as_array(), other["real"].as_str()) {
            (Some(bytes), _) => {
                Value::Blob(bytes.iter().map(|byte| byte.as_u64().unwrap_or(0) as u8).collect())
            }
            (None, Some(real)) => Value::Real(beyond(real)),
            (None, None) => Value::Text(text(other)),
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

pub fn rows(rows: Vec<Vec<Value>>) -> Json {
    rows.into_iter().map(|row| row.into_iter().map(to_json).collect::<Json>()).collect()
}

pub fn to_json(value: Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Integer(number) => number.into(),
        Value::Real(number) => number.into(),
        Value::Text(text) => text.into(),
        Value::Blob(bytes) => json!({ "blob": bytes }),
    }
}

pub fn answer(result: Result<Json, Error>) -> Json {
    match result {
        Ok(value) => json!({ "ok": value }),
        Err(error) => json!({ "err": error.code, "message": error.message }),
    }
}

/// `[worker, args, options]` each, or so many times the same: `{"times": 3, "job": […]}`. What is a text
/// is passed on as it is, also where JSON belongs.
pub fn jobs(json: &Json) -> Vec<NewJob> {
    if let Some(times) = json["times"].as_u64() {
        return vec![job(&json["job"]); times as usize];
    }
    json.as_array().map(|items| items.iter().map(job).collect()).unwrap_or_default()
}

fn job(json: &Json) -> NewJob {
    let part = |place: usize, absent: &str| match &json[place] {
        Json::Null => absent.to_string(),
        part => text(part),
    };
    NewJob { worker: part(0, ""), args: part(1, "{}"), options: part(2, "") }
}

pub fn events(json: &Json) -> Vec<Event> {
    json.as_array().map(|items| items.iter().map(event).collect()).unwrap_or_default()
}

/// The texts of an event are passed on as they are, also where JSON belongs.
fn event(json: &Json) -> Event {
    let field = |name: &str| (!json[name].is_null()).then(|| text(&json[name]));
    Event {
        action: text(&json["action"]),
        outcome: match json["outcome"].as_str() {
            Some("failure") => EventOutcome::Failure,
            Some("error") => EventOutcome::Error,
            _ => EventOutcome::Success,
        },
        organization_id: field("organization_id"),
        subject_type: field("subject_type"),
        subject_id: field("subject_id"),
        before: field("before"),
        after: field("after"),
        metadata: field("metadata"),
    }
}
