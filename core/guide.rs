//! The guide, page by page. Its examples are compiled and run with the tests.

#[doc = include_str!("guide/getting_started.md")]
pub mod getting_started {}

#[doc = include_str!("guide/workers.md")]
pub mod workers {}

#[doc = include_str!("guide/languages.md")]
pub mod languages {}

#[doc = include_str!("guide/interface.md")]
pub mod interface {}
#[doc = include_str!("guide/built_ins.md")]
pub mod built_ins {}

#[doc = include_str!("guide/capabilities.md")]
pub mod capabilities {}

#[doc = include_str!("guide/sqlite.md")]
pub mod sqlite {}

#[doc = include_str!("guide/schedules.md")]
pub mod schedules {}

#[cfg(feature = "wasm")]
#[doc = include_str!("guide/plugins.md")]
pub mod plugins {}

#[doc = include_str!("guide/sandbox.md")]
pub mod sandbox {}

#[doc = include_str!("guide/operating.md")]
pub mod operating {}

#[doc = include_str!("guide/page.md")]
pub mod page {}

#[doc = include_str!("guide/config.md")]
pub mod config {}

#[doc = include_str!("guide/events.md")]
pub mod events {}

#[doc = include_str!("guide/shipping.md")]
pub mod shipping {}

#[doc = include_str!("guide/testing.md")]
pub mod testing {}

#[doc = include_str!("guide/durability.md")]
pub mod durability {}

#[doc = include_str!("guide/speed.md")]
#[doc = ""]
#[doc = include_str!("guide/app_waits.svg")]
pub mod speed {}

#[doc = include_str!("guide/beyond.md")]
#[doc = ""]
#[doc = "```rust,ignore"]
#[doc = include_str!("examples/fleet.rs")]
#[doc = "```"]
pub mod beyond {}

#[cfg(feature = "postgres")]
#[doc = include_str!("guide/postgres.md")]
pub mod postgres {}

#[doc = include_str!("guide/commands.md")]
pub mod commands {}
