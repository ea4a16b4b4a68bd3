//! JSON text of a stranger, which is checked before anything is built of it.
//!
//! A short text may take a hundred times its bytes once it is built: `[{"":0},{"":0}]` takes a tree
//! for each object. So text that is only passed on stays text, and text that has to be built is
//! weighed first.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value as Json;

/// Bytes that any value takes in memory.
const VALUE_BYTES: usize = size_of::<Json>();

/// Bytes that the first node of an object's tree takes: it has room for 11 fields.
const OBJECT_BYTES: usize = 11 * (VALUE_BYTES + size_of::<String>()) + 32;

/// Checks that the text is JSON that [`serde_json::from_str`] would read, and builds nothing.
pub(crate) fn check(text: &str) -> Result<(), serde_json::Error> {
    weigh(text, usize::MAX)
}

/// Reads JSON that takes at most `most` bytes once it is built.
pub(crate) fn parse(text: &str, most: usize) -> Result<Json, serde_json::Error> {
    weigh(text, most)?;
    serde_json::from_str(text)
}

/// The text of a value, if it has at most `most` bytes.
pub(crate) fn write(json: &Json, most: usize) -> Option<String> {
    struct Bounded(Vec<u8>, usize);
    impl std::io::Write for Bounded {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            if self.0.len() + bytes.len() > self.1 {
                return Err(std::io::ErrorKind::FileTooLarge.into());
            }
            self.0.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut text = Bounded(Vec::new(), most);
    serde_json::to_writer(&mut text, json).ok()?;
    String::from_utf8(text.0).ok()
}

fn weigh(text: &str, most: usize) -> Result<(), serde_json::Error> {
    let mut left = most;
    let mut reader = serde_json::Deserializer::from_str(text);
    Weighing { left: &mut left, most }.deserialize(&mut reader)?;
    reader.end()
}

struct Weighing<'w> {
    left: &'w mut usize,
    most: usize,
}

impl Weighing<'_> {
    fn take<E: serde::de::Error>(&mut self, bytes: usize) -> Result<(), E> {
        match self.left.checked_sub(bytes) {
            Some(left) => *self.left = left,
            None => {
                return Err(E::custom(format_args!(
                    "it unfolds to more than {} bytes of memory",
                    self.most
                )));
            }
        }
        Ok(())
    }

    fn inner(&mut self) -> Weighing<'_> {
        Weighing { left: self.left, most: self.most }
    }
}

impl<'de> DeserializeSeed<'de> for Weighing<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Weighing<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: serde::de::Error>(mut self) -> Result<(), E> {
        self.take(VALUE_BYTES)
    }

    fn visit_bool<E: serde::de::Error>(mut self, _: bool) -> Result<(), E> {
        self.take(VALUE_BYTES)
    }

    fn visit_i64<E: serde::de::Error>(mut self, _: i64) -> Result<(), E> {
        self.take(VALUE_BYTES)
    }

    fn visit_u64<E: serde::de::Error>(mut self, _: u64) -> Result<(), E> {
        self.take(VALUE_BYTES)
    }

    fn visit_f64<E: serde::de::Error>(mut self, _: f64) -> Result<(), E> {
        self.take(VALUE_BYTES)
    }

    fn visit_str<E: serde::de::Error>(mut self, text: &str) -> Result<(), E> {
        self.take(VALUE_BYTES + text.len())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        self.take::<A::Error>(VALUE_BYTES)?;
        while items.next_element_seed(self.inner())?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut fields: A) -> Result<(), A::Error> {
        self.take::<A::Error>(VALUE_BYTES)?;
        let mut first = true;
        while fields.next_key_seed(self.inner())?.is_some() {
            if std::mem::take(&mut first) {
                self.take(OBJECT_BYTES).map_err(A::Error::custom::<A::Error>)?;
            }
            fields.next_value_seed(self.inner())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_what_serde_json_takes_and_refuses_what_it_refuses() {
        let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        let texts = [
            "null",
            " true ",
            "-0.5e3",
            "\"a\\u00e4\"",
            "[]",
            "{}",
            "[1,{\"a\":[null]}]",
            "",
            "nul",
            "[1,]",
            "{\"a\"}",
            "1 2",
            "\"\\ud800\"",
            "1e999",
            "\"a\nb\"",
            "{1:2}",
            "01",
        ];
        for text in texts.map(str::to_string).into_iter().chain([deep(127), deep(128), deep(5_000)])
        {
            let parsed = serde_json::from_str::<Json>(&text);
            assert_eq!(check(&text).is_ok(), parsed.is_ok(), "{text:.40}: {:?}", check(&text));
            assert_eq!(parse(&text, 1 << 20).ok(), parsed.ok(), "{text:.40}");
        }
    }

    #[test]
    fn a_value_is_written_up_to_so_many_bytes() {
        let json = serde_json::json!({"a": [1, "ä\n"]});
        let text = json.to_string();
        assert_eq!(write(&json, text.len()).as_ref(), Some(&text));
        assert_eq!(write(&json, text.len() - 1), None);
    }

    #[test]
    fn what_unfolds_to_too_much_is_refused_before_it_is_built() {
        let objects = format!("[{}]", vec![r#"{"":0}"#; 10_000].join(","));
        let error = parse(&objects, 1 << 20).unwrap_err().to_string();
        assert!(error.starts_with("it unfolds to more than 1048576 bytes of memory"), "{error}");
        assert!(parse(&objects, 8 << 20).is_ok());
        let numbers = format!("[{}]", vec!["0"; 10_000].join(","));
        assert!(parse(&numbers, 400_000).is_ok() && parse(&numbers, 300_000).is_err());
    }
}
