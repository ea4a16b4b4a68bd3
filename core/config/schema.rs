//! The JSON Schema of `verger.toml`, for editors.

use serde_json::{Map, Value as Json, json};

use super::keys::{Key, Kind, SCHEDULE, TOP};

const DURATION: &str = "^[0-9]+ *(ms|s|m|h|d)$";
const SIZE: &str = "^[0-9]+ *(B|KiB|MiB|GiB)?$";

/// The schema in draft-07, which editors know.
pub(super) fn schema() -> Json {
    let mut schema = table(TOP);
    schema["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    schema["title"] = json!("verger.toml");
    schema["description"] =
        json!("What a Verger is to be: see the guide's page on its file of settings.");
    schema
}

fn table(keys: &'static [Key]) -> Json {
    let properties: Map<String, Json> =
        keys.iter().map(|key| (key.name.to_string(), property(key))).collect();
    let mut table =
        json!({"type": "object", "properties": properties, "additionalProperties": false});
    if std::ptr::eq(keys, SCHEDULE) {
        table["required"] = json!(["worker"]);
        table["oneOf"] = json!([{"required": ["cron"]}, {"required": ["every"]}]);
    }
    table
}

fn property(key: &Key) -> Json {
    let mut property = kind(key.kind);
    property["description"] = json!(key.about);
    if let Some(newer) = key.replaced_by {
        property["deprecated"] = json!(true);
        property["description"] = json!(format!("{} Deprecated: write `{newer}`.", key.about));
    }
    property
}

fn kind(kind: Kind) -> Json {
    match kind {
        Kind::Text | Kind::Path => json!({"type": "string", "minLength": 1}),
        Kind::Flag => json!({"type": "boolean"}),
        Kind::Integer { least, most: i64::MAX } => json!({"type": "integer", "minimum": least}),
        Kind::Integer { least, most } => {
            json!({"type": "integer", "minimum": least, "maximum": most})
        }
        Kind::Duration => json!({"type": "string", "pattern": DURATION}),
        Kind::Keep => {
            json!({"anyOf": [{"type": "string", "pattern": DURATION}, {"const": "forever"}]})
        }
        Kind::Size => {
            json!({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": SIZE}]})
        }
        Kind::Choice(words) => json!({"type": "string", "enum": words}),
        Kind::Texts | Kind::Paths => {
            json!({"type": "array", "items": {"type": "string", "minLength": 1}})
        }
        Kind::Args => json!({"anyOf": [{"type": "object"}, {"type": "string"}]}),
        Kind::Table(keys) => table(keys),
        Kind::Named(keys) => json!({"type": "object", "additionalProperties": table(keys)}),
    }
}
