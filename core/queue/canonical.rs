//! JSON with one text for one value: keys sorted, no white space, each number written one way.
//!
//! Unique keys are made of it. It is written here and not by serde_json, because any crate of the
//! app may turn on features there that change the order of keys and the text of numbers. The keys
//! of waiting jobs must not depend on that.

use std::fmt::Write as _;

use serde_json::{Number, Value as Json};

/// The canonical text of a value. A whole number and a fraction are two values, even `1` and `1.0`,
/// because taking them for one could lose a job.
pub(super) fn canonical(json: &Json) -> String {
    let mut text = String::new();
    write(json, &mut text);
    text
}

fn write(json: &Json, text: &mut String) {
    match json {
        Json::Null => text.push_str("null"),
        Json::Bool(true) => text.push_str("true"),
        Json::Bool(false) => text.push_str("false"),
        Json::Number(number) => write_number(number, text),
        Json::String(string) => write_string(string, text),
        Json::Array(items) => {
            text.push('[');
            for (place, item) in items.iter().enumerate() {
                text.push_str(if place > 0 { "," } else { "" });
                write(item, text);
            }
            text.push(']');
        }
        Json::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_unstable_by_key(|(key, _)| *key);
            text.push('{');
            for (place, (key, value)) in fields.into_iter().enumerate() {
                text.push_str(if place > 0 { "," } else { "" });
                write_string(key, text);
                text.push(':');
                write(value, text);
            }
            text.push('}');
        }
    }
}

fn write_number(number: &Number, text: &mut String) {
    // Writing to a string does not fail.
    let _ = match (number.as_i64(), number.as_u64(), number.as_f64()) {
        (Some(whole), ..) => write!(text, "{whole}"),
        (None, Some(whole), _) => write!(text, "{whole}"),
        (None, None, Some(fraction)) => write!(text, "{fraction:?}"),
        (None, None, None) => write!(text, "{number}"),
    };
}

fn write_string(string: &str, text: &mut String) {
    text.push('"');
    for char in string.chars() {
        match char {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\0'..='\u{1f}' => {
                let _ = write!(text, "\\u{:04x}", u32::from(char));
            }
            other => text.push(other),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_has_one_text() {
        let value = json!({"b": {"y": [1, -2, 2.5], "x": "a\"\\\n"}, "a": 18_446_744_073_709_551_615_u64, "é": null});
        assert_eq!(
            canonical(&value),
            "{\"a\":18446744073709551615,\"b\":{\"x\":\"a\\\"\\\\\\u000a\",\"y\":[1,-2,2.5]},\"é\":null}"
        );
        assert_eq!(serde_json::from_str::<Json>(&canonical(&value)).unwrap(), value);
        assert_ne!(canonical(&json!({"n": 1})), canonical(&json!({"n": 1.0})));
        let same: [Json; 3] =
            ["1.0", "1.00", "1e0"].map(|text| serde_json::from_str(text).unwrap());
        assert!(same.iter().all(|number| canonical(number) == "1.0"));
    }
}
