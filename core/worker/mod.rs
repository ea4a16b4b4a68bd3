//! Workers by name, native or components, and what is known of each.

mod args;
#[cfg(feature = "wasm")]
mod bound_names;
#[cfg(feature = "wasm")]
mod name_store;
#[cfg(feature = "wasm")]
mod names;
mod registry;

pub(crate) use args::parse as parse_args;
#[cfg(feature = "wasm")]
pub(crate) use bound_names::free_name;
#[cfg(feature = "wasm")]
use bound_names::{bind_name, bound_names};
#[cfg(feature = "wasm")]
pub(crate) use name_store::NameStore;
#[cfg(feature = "wasm")]
pub(crate) use names::{Bound, Decision, decide, refusal};
pub(crate) use registry::{Registered, Registry};
