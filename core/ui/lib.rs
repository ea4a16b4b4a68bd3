#![doc = include_str!("README.md")]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")
)]

mod action;
mod answer;
mod bulk;
mod layout;
mod query;
#[cfg(feature = "server")]
mod server;
mod stranger;
mod svg;
mod ui;
mod views;
mod words;

#[cfg(feature = "server")]
pub use server::{ServeError, Server, Stopper};
pub use ui::{Ui, respond};
#[doc(hidden)]
pub use words::count;
