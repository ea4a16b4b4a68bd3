//! JSON at random: values, and texts that are almost JSON.

use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Number, Value as Json};

/// A text with an eye for what breaks: nothing, control characters, characters of many bytes,
/// quotes, names of tables.
pub(crate) fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-z_]{0,8}",
        2 => any::<String>(),
        1 => prop::sample::select(vec![
            "", " ", "\0", "a\0b", "\u{feff}", "\u{202e}", "\u{1f5a4}", "ä", "'", "\"", "\\", "%s", "../x", "NULL", "things", "verger_jobs",
            "sqlite_schema", "1e999", "\n\r\t", "{}", "null", "\u{ffff}",
        ])
        .prop_map(String::from),
        1 => (1..2_000_usize).prop_map(|length| "x".repeat(length)),
    ]
}

pub(crate) fn json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        any::<u64>().prop_map(Json::from),
        (-3..4_i64).prop_map(Json::from),
        any::<f64>().prop_map(|number| Number::from_f64(number).map_or(Json::Null, Json::from)),
        text().prop_map(Json::from),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Json::from),
            prop::collection::vec((text(), inner), 0..6)
                .prop_map(|fields| Json::Object(fields.into_iter().collect())),
        ]
    })
}

/// One thing done to a JSON text.
#[derive(Debug, Clone)]
pub(crate) enum Scribble {
    Insert(Index, &'static str),
    /// A value set into so many brackets.
    Nest(u16),
    Truncate(Index),
    Byte(Index, u8),
    Append(&'static str),
}

pub(crate) fn scribble() -> impl Strategy<Value = Scribble> {
    let bits = prop::sample::select(vec![
        "1e999",
        "-1e-999",
        "123456789012345678901234567890",
        "0.1234567890123456789",
        "\\u0000",
        "\\ud800",
        "\u{feff}",
        "\0",
        "/**/",
        ",",
        "\"",
        "NaN",
        "Infinity",
        "'x'",
        "\"name\":\"other\",",
        "\"organization_id\":1,",
        "null",
        "{",
        "}",
        "[",
        "]",
        ":",
        "\\",
        "01",
        "0x1f",
        "+1",
    ]);
    prop_oneof![
        4 => (any::<Index>(), bits.clone()).prop_map(|(place, bit)| Scribble::Insert(place, bit)),
        1 => (0..3_000_u16).prop_map(Scribble::Nest),
        1 => any::<Index>().prop_map(Scribble::Truncate),
        2 => (any::<Index>(), any::<u8>()).prop_map(|(place, byte)| Scribble::Byte(place, byte)),
        1 => bits.prop_map(Scribble::Append),
    ]
}

impl Scribble {
    pub(crate) fn apply(&self, text: &mut Vec<u8>) {
        match self {
            Self::Insert(place, bit) => {
                let at = place.index(text.len() + 1);
                text.splice(at..at, bit.bytes());
            }
            // As the value of a new first key, if it is an object.
            Self::Nest(depth) => {
                let depth = usize::from(*depth);
                let nested = format!("\"nested\":{}{},", "[".repeat(depth), "]".repeat(depth));
                text.splice(1.min(text.len())..1.min(text.len()), nested.into_bytes());
            }
            Self::Truncate(place) => text.truncate(place.index(text.len() + 1)),
            Self::Byte(place, byte) if !text.is_empty() => {
                let at = place.index(text.len());
                text[at] = *byte;
            }
            Self::Byte(..) => {}
            Self::Append(bit) => text.extend(bit.bytes()),
        }
    }
}

/// The text of a value, mostly as it is, at times scribbled on.
pub(crate) fn scribbled(values: impl Strategy<Value = Json> + 'static) -> BoxedStrategy<Vec<u8>> {
    let scribbles = prop_oneof![2 => Just(Vec::new()).boxed(), 1 => prop::collection::vec(scribble(), 1..4).boxed()];
    (values, scribbles)
        .prop_map(|(value, scribbles)| {
            let mut text = value.to_string().into_bytes();
            scribbles.iter().for_each(|scribble| scribble.apply(&mut text));
            text
        })
        .boxed()
}
