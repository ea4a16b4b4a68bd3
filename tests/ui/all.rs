//! The page, requested as a browser does.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod browser;
mod changes;
mod hostile;
mod large;
#[cfg(feature = "wasm")]
#[path = "../common/puppet.rs"]
mod puppet;
mod server;
mod site;
mod views;
