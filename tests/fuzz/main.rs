//! Random input where strangers' data comes in: the bytes of a component, its manifest, the args of
//! a job, the calls a worker makes, the text of a statement, and the entries of the compile cache.
//! Each surface begins with its folder of `tests/fuzz/corpus/`, then makes up cases of its own.
//!
//! `VERGER_LONG=1` goes on for ten minutes a surface, `VERGER_LONG=60` for one. A failure is
//! reduced, written into the corpus, and replayed first from then on. `VERGER_SEED=…` repeats a
//! run.
//!
//! `libfuzzer/` has the text of a statement once more, for `cargo fuzz`, which follows what the
//! text reaches in the code.
#![allow(clippy::print_stdout, reason = "the figures are for people")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod args;
mod cache;
#[path = "../common/mod.rs"]
mod common;
mod components;
#[path = "../handmade/mod.rs"]
mod handmade;
mod honest;
mod json;
mod manifests;
mod mutation;
mod programs;
mod sql;
mod statement_world;
mod statements;
mod surface;
