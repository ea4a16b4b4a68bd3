//! Workers by name, native or components, and what is known of each.

mod args;
mod registry;

pub(crate) use args::parse as parse_args;
pub(crate) use registry::{Registered, Registry};
