//! The sandbox: workers as WebAssembly components, compiled once, instantiated afresh for every attempt.

#[cfg(feature = "compile")]
mod budget;
mod cache;
mod compiler;
mod console;
mod engine;
mod guest;
mod limiter;
mod load;
mod plugin;
#[cfg(feature = "compile")]
mod shape;
mod wasi;
mod watchdog;

pub use cache::CompileCache;
pub(crate) use compiler::Compiler;
pub(crate) use plugin::{Plugin, Source};
