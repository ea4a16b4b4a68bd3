//! Workers by name, native or components, and what is known of each.

mod args;
mod registry;

pub(crate) use args::parse as parse_args;
#[cfg(feature = "wasm")]
pub(crate) use registry::snooze;
pub(crate) use registry::{Ended, Registered, Registry};
