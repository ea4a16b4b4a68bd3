//! The sandbox: workers as WebAssembly components, compiled once, instantiated afresh for every attempt.

mod cache;
mod console;
mod engine;
mod guest;
mod limiter;
mod load;
mod plugin;
mod wasi;
mod watchdog;

pub use cache::CompileCache;
pub(crate) use plugin::{Plugin, Source};
