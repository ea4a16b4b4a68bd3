//! The sandbox: workers as WebAssembly components, compiled once, instantiated afresh for every attempt.

mod cache;
mod engine;
mod guest;
mod limiter;
mod load;
mod plugin;
mod watchdog;

pub use cache::CompileCache;
pub(crate) use plugin::{Plugin, Source};
