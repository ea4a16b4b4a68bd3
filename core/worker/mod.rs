//! Workers by name, native or components, and what is known of each.

mod error;
mod registry;

pub use error::PluginError;
#[cfg(feature = "wasm")]
pub(crate) use registry::snooze;
pub(crate) use registry::{Ended, Registered, Registry};
