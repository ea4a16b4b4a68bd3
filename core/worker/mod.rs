//! Workers by name, native or components, and what is known of each.

mod registry;

#[cfg(feature = "wasm")]
pub(crate) use registry::snooze;
pub(crate) use registry::{Ended, Registered, Registry};
