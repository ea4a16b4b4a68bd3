//! `verger plugin forget`: frees a name for another file.

use anyhow::{Result, ensure};
use serde_json::json;

use crate::escape::shown;
use crate::options::{Database, Options};
use crate::output::{print, print_json};

pub(super) fn forget(name: &str, database: &Database, options: &Options) -> Result<()> {
    let was_bound = options.open(database)?.forget_plugin(name)?;
    ensure!(was_bound, "no dropped-in worker had the name `{}` in this database", shown(name));
    if options.json {
        return print_json(&json!({ "forgotten": name }));
    }
    print([format!(
        "the name `{}` is free for the file that has it at the next open",
        shown(name)
    )]);
    Ok(())
}
