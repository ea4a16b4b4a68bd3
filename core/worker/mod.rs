//! Workers by name, native or components, and what is known of each.

mod args;
#[cfg(feature = "wasm")]
mod books;
#[cfg(feature = "wasm")]
mod bound_names;
#[cfg(feature = "wasm")]
mod consent;
#[cfg(feature = "wasm")]
mod grant_rows;
#[cfg(feature = "wasm")]
mod names;
#[cfg(feature = "wasm")]
mod plugins;
mod registry;

pub(crate) use args::parse as parse_args;
#[cfg(feature = "wasm")]
pub use bound_names::PluginBinding;
#[cfg(feature = "wasm")]
pub use consent::{Ask, Consent, ConsentState, GrantDecision, GrantRow};
#[cfg(feature = "wasm")]
use names::{Bound, Decision, decide, refusal};
#[cfg(feature = "wasm")]
pub use plugins::PluginInfo;
#[cfg(feature = "wasm")]
pub(crate) use plugins::{Front, Patience, Plugins, Policy};
pub(crate) use registry::{Registered, Registry};
