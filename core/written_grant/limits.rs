//! The limits of a grant as they are written.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::limits::Limits;

/// The limits that differ from the defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(super) struct WrittenLimits(pub(super) BTreeMap<String, u64>);

impl WrittenLimits {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn set_on(&self, limits: Limits) -> Limits {
        self.0.iter().fold(limits, |limits, (name, value)| {
            // Only names of limits were read, so each is found.
            limits.clone().with(name, *value).unwrap_or(limits)
        })
    }
}

impl<'de> Deserialize<'de> for WrittenLimits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = WrittenLimits;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of limits, by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<WrittenLimits, A::Error> {
                let mut read = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, u64>()? {
                    if Limits::new().with(&name, value).is_none() {
                        let limits = Limits::new().write_lock(std::time::Duration::ZERO);
                        let known: Vec<_> = limits.all().map(|(name, _)| name).collect();
                        let known = known.join(", ");
                        return Err(A::Error::custom(format!(
                            "there is no limit {name:?}; there are {known}"
                        )));
                    }
                    if value == 0 {
                        return Err(A::Error::custom(format!(
                            "the limit {name} is 0, and must be at least 1"
                        )));
                    }
                    if read.insert(name.clone(), value).is_some() {
                        return Err(A::Error::custom(format!("the limit {name} is there twice")));
                    }
                }
                Ok(WrittenLimits(read))
            }
        }

        deserializer.deserialize_map(Reader)
    }
}
