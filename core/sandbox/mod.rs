//! The sandbox: workers as WebAssembly components, compiled once, and instantiated anew for every
//! attempt.

mod compile;
mod console;
mod engine;
mod guest;
mod instance;
mod limiter;
mod load;
mod plugin;
#[cfg(feature = "builtins")]
mod prebuilt;
mod wasi;
mod watchdog;

pub use compile::CompileCache;
pub(crate) use compile::{Ahead, Compiler};
#[cfg(feature = "compile")]
pub use compile::{CompiledComponent, compile_component};
pub(crate) use plugin::{Plugin, Source, digest_of, forget_compiled, no_file, read};
#[cfg(feature = "builtins")]
pub(crate) use prebuilt::{BUILT_IN_TIME, PREBUILT};
