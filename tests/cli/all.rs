//! The `verger` command as a person and a program meet it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod authors;
mod config;
mod consent;
mod demo;
#[cfg(unix)]
mod demo_on_postgres;
#[path = "../handmade/mod.rs"]
mod handmade;
mod harness;
mod key;
mod plugin;
mod printing;
#[path = "../common/puppet.rs"]
mod puppet;
mod queue;
mod service;
mod verbs;
