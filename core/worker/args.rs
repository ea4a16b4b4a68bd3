//! The args of a job, as its row has them.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::{Map, Value as Json};
use verger_worker::{ArgError, Args};

/// Reads the args of a row. A row that was inserted by hand may have a key twice. Such args are
/// refused, because they could name two tenants.
///
/// # Errors
/// [`ArgError::NotAnObject`] when they are no JSON object, or one that has a key twice.
pub(crate) fn parse(text: &str) -> Result<Args, ArgError> {
    match serde_json::from_str(text) {
        Ok(Once(map)) => Args::from_json(Json::Object(map)),
        // Args that are no object get the same error as everywhere.
        Err(error) => match Args::parse(text) {
            Err(error) => Err(error),
            Ok(_) => Err(ArgError::NotAnObject { found: error.to_string() }),
        },
    }
}

/// An object that has each key once.
struct Once(Map<String, Json>);

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Keys)
    }
}

struct Keys;

impl<'de> Visitor<'de> for Keys {
    type Value = Once;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Once, A::Error> {
        let mut map = Map::new();
        while let Some((key, value)) = access.next_entry::<String, Json>()? {
            if map.contains_key(&key) {
                return Err(A::Error::custom(format_args!("one that has the key `{key}` twice")));
            }
            map.insert(key, value);
        }
        Ok(Once(map))
    }
}
