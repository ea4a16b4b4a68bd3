//! `verger.toml`: the settings of a Verger, in a file that the app and the command both read.

mod capabilities;
mod difference;
mod error;
mod keys;
mod node;
mod schema;
mod settings;
mod units;
mod verger_toml;
mod walk;

pub use difference::{Change, ChangeKind};
pub use error::{ConfigError, Position, Problem};
pub use verger_toml::Config;
