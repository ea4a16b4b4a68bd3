//! The `verger` command as a person and a program meet it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]
#![allow(clippy::print_stdout, reason = "a test says that it was skipped")]

mod authors;
#[cfg(all(unix, feature = "postgres"))]
#[path = "../postgres/cluster.rs"]
#[allow(dead_code, reason = "the tests of the library use the rest")]
mod cluster;
mod config;
mod consent;
mod demo;
#[cfg(all(unix, feature = "postgres"))]
mod demo_on_postgres;
#[path = "../handmade/mod.rs"]
mod handmade;
mod harness;
mod key;
mod plugin;
#[cfg(all(unix, feature = "postgres"))]
mod postgres_verbs;
mod printing;
#[path = "../common/puppet.rs"]
mod puppet;
mod queue;
mod service;
mod verbs;
