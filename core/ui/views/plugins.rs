//! The workers: what each may do, and what it asks for.

use maud::{Markup, html};
use verger::verger_worker::TableName;
use verger::{Error, PluginError, Withheld};

use super::{View, nothing};
use crate::answer::Answer;
use crate::query::encoded;
use crate::stranger::{long, plain, short};

pub(super) fn view(view: &View<'_>) -> Result<Answer, Error> {
    let withheld = view.verger.withheld();
    let mut refused = view.verger.refused_plugins();
    // A worker that waits is shown with what it asks for, and the forms to decide.
    refused
        .retain(|reason| !cfg!(feature = "wasm") || !matches!(reason, PluginError::Waits { .. }));
    let (waiting, workers): (Vec<String>, Vec<String>) =
        view.verger.workers().into_iter().partition(|name| waits(view, name));
    let content = html! {
        h1 { "Plugins" }
        @if let Some(done) = view.query.get("done") { p.alert role="status" { (short(done)) } }
        @if !refused.is_empty() {
            section aria-labelledby="refused" {
                h2 id="refused" { "Refused" }
                ul { @for reason in refused { li.alert.bad { (long(&reason.to_string())) } } }
            }
        }
        @for (id, title, names) in [("waiting", "Waiting for a decision", &waiting), ("workers", "Workers", &workers)] {
            @if id == "workers" || !names.is_empty() {
                section aria-labelledby=(id) {
                    h2 id=(id) { (title) }
                    @if names.is_empty() { (nothing("This process has no workers.")) }
                    @for name in names.iter().take(200) {
                        (article(view, name, withheld.iter().find(|withheld| withheld.worker == *name), false))
                    }
                }
            }
        }
    };
    Ok(Answer::view("Plugins", content))
}

/// One worker. Its component is compiled if it must be, so that it can be asked.
pub(super) fn one(view: &View<'_>) -> Result<Answer, Error> {
    let name = view.query.get("name").unwrap_or_default();
    if !view.verger.workers().iter().any(|worker| worker == name) {
        return Ok(super::absent(format!("There is no worker {name}.")));
    }
    let withheld = view.verger.withheld();
    let withheld = withheld.iter().find(|withheld| withheld.worker == name);
    let content = html! {
        h1 { "Plugin" }
        (article(view, name, withheld, true))
        p { a href=(view.ui.link("/plugins")) { "All plugins" } }
    };
    Ok(Answer::view("Plugin", content))
}

/// A worker. If it would have to be compiled first, it is shown in full only with `compiles`.
fn article(view: &View<'_>, name: &str, withheld: Option<&Withheld>, compiles: bool) -> Markup {
    let is_known = compiles || view.verger.known_manifest(name).is_some();
    let link = view.ui.link(&format!("/plugin?name={}", encoded(name)));
    html! {
        article data-late=[(!is_known).then_some(&link)] {
            h3 id=(format!("worker-{}", encoded(name))) { (short(name)) }
            @if is_known { (worker(view, name, withheld)) }
            @else {
                p { "It was not asked yet what it needs. " a href=(link) { "Ask it" } }
            }
        }
    }
}

fn worker(view: &View<'_>, name: &str, withheld: Option<&Withheld>) -> Markup {
    let manifest = match view.verger.manifest(name) {
        Ok(manifest) => manifest,
        Err(error) => return html! { p.alert.bad { (short(&error.to_string())) } },
    };
    let digest = view.verger.digest(name).ok().flatten();
    let tables = manifest.tables.iter().map(|ask| {
        let (TableName::Named { table } | TableName::FromArg { default: table, .. }) = &ask.table;
        let verbs: Vec<String> = ask.verbs.iter().map(ToString::to_string).collect();
        format!("{} on {}", verbs.join(", "), plain(table))
    });
    html! {
        @if let Some(withheld) = withheld { p.alert.warn { (short(&withheld.to_string())) } }
        dl {
            dt { "Version" } dd { (short(&manifest.version)) }
            dt { "Comes from" }
            dd { @match &digest { Some(digest) => { "a component, SHA-256 " code.break { (short(digest)) } } None => "the app itself" } }
            dt { "Asks for" }
            dd {
                @if manifest.tables.is_empty() && manifest.capabilities.is_empty() { "nothing" }
                @else {
                    ul {
                        @for table in tables { li { (table) } }
                        @for capability in &manifest.capabilities { li { "to call " (short(capability)) } }
                    }
                }
            }
            dt { "Tenants" } dd { @if manifest.tenant_aware { "each job names its organization" } @else { "it knows none" } }
        }
        (consent(view, name))
        @if view.ui.changes {
            details id=(format!("dry-{}", encoded(name))) {
                summary { "Dry run" }
                (super::dry_run::form(view, name, "{}"))
            }
        }
        p { a href=(view.ui.link(&format!("/jobs?worker={}", encoded(name)))) { "Its jobs" } }
    }
}

/// Whether somebody has to decide about it.
#[cfg(feature = "wasm")]
fn waits(view: &View<'_>, name: &str) -> bool {
    let consent = view.verger.consent(name).ok().flatten();
    consent.is_some_and(|consent| consent.state == verger::ConsentState::Waiting)
}

#[cfg(not(feature = "wasm"))]
fn waits(_: &View<'_>, _: &str) -> bool {
    false
}

#[cfg(not(feature = "wasm"))]
fn consent(_: &View<'_>, _: &str) -> Markup {
    html! {}
}

/// What a dropped-in worker asks for, what was decided, and the forms that decide.
#[cfg(feature = "wasm")]
fn consent(view: &View<'_>, name: &str) -> Markup {
    use verger::{ConsentState, GrantDecision};

    let consent = match view.verger.consent(name) {
        Ok(Some(consent)) if consent.state != ConsentState::ByTheApp => consent,
        Ok(_) => return html! {},
        Err(error) => return html! { p.alert.bad { (short(&error.to_string())) } },
    };
    let (class, what) = match consent.state {
        ConsentState::Granted => ("alert ok", "has all it asks for"),
        ConsentState::Waiting => ("alert warn", "waits for somebody to decide"),
        ConsentState::Denied => ("alert bad", "was refused something it asks for"),
        ConsentState::RolledBack => ("alert warn", "was rolled back"),
        _ => ("alert", "has what the app grants"),
    };
    let is_granted = consent.state == ConsentState::Granted;
    let may_revoke = consent.asks.iter().any(|ask| ask.decision == Some(GrantDecision::Granted));
    html! {
        div class=(class) {
            p { "Version " (short(&consent.version)) " " (what) "." }
            @if !consent.description.is_empty() { p { (short(&consent.description)) } }
            ul {
                @for ask in &consent.asks {
                    li {
                        (short(&ask.sentence)) " "
                        @match ask.decision {
                            Some(GrantDecision::Granted) => { span.state.ok { "granted" } " by " (short(&ask.decided_by)) },
                            Some(GrantDecision::Denied) => { span.state.bad { "denied" } " by " (short(&ask.decided_by)) },
                            Some(GrantDecision::Revoked) => { span.state.bad { "taken back" } " by " (short(&ask.decided_by)) },
                            _ => span.state.warn { "not decided" },
                        }
                    }
                }
            }
            p.quiet { "SHA-256 " code.break { (short(&consent.digest)) } }
            @if view.ui.changes {
                form.bar method="post" action=(view.ui.link("/plugin/approve")) {
                    (crate::layout::secret(view.ui))
                    input type="hidden" name="name" value=(name);
                    input type="hidden" name="digest" value=(consent.digest);
                    input type="hidden" name="back" value="/plugins";
                    label { "Who decides " input type="text" name="who" required maxlength="200" autocomplete="name" placeholder="ann@example.com"; }
                    @if !is_granted {
                        button type="submit" aria-label=(format!("Approve {}", plain(name))) { "Approve" }
                        button type="submit" formaction=(view.ui.link("/plugin/deny")) aria-label=(format!("Deny {}", plain(name))) { "Deny" }
                    }
                    @if may_revoke {
                        button type="submit" formaction=(view.ui.link("/plugin/revoke")) aria-label=(format!("Take back what {} has", plain(name))) { "Take back" }
                    }
                }
            }
        }
    }
}
