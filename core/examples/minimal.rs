//! The smallest app with Verger in it. It runs the three built-in sweeps on their suggested
//! schedules, over the reference tables, until the standard input ends. `cargo run --release
//! --example minimal -- app.db`

use std::time::Duration;

use serde_json::json;
use verger::{Schedule, Verger};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let file = std::env::args().nth(1).unwrap_or_else(|| "app.db".to_string());
    // Of all tenants, for nobody in particular.
    let everyone = json!({"organization_id": null, "actor_id": null});
    let verger = Verger::builder(file)
        .schedule(
            Schedule::cron("invitations", "0 3 * * *")?
                .worker("cleanup-expired-invitations")
                .args(everyone.clone()),
        )
        .schedule(
            Schedule::every("memberships", Duration::from_secs(300))?
                .worker("reconcile-memberships")
                .args(everyone.clone()),
        )
        .schedule(
            Schedule::cron("webhooks", "*/5 * * * *")?
                .worker("reconcile-webhook-events")
                .args(everyone),
        )
        .open()?;
    verger.migrate_reference()?;
    let ticking = verger.start()?;
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink())?;
    ticking.stop(Duration::from_secs(5))?;
    Ok(())
}
