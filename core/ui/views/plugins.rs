//! The workers: what each may do, and what it asks for.

use maud::{Markup, html};
use verger::verger_worker::TableName;
use verger::{Error, Withheld};

use super::{View, nothing};
use crate::answer::Answer;
use crate::query::encoded;
use crate::stranger::{plain, short};

pub(super) fn view(view: &View<'_>) -> Result<Answer, Error> {
    let withheld = view.verger.withheld();
    let refused = view.verger.refused_plugins();
    let content = html! {
        h1 { "Plugins" }
        @if !refused.is_empty() {
            section aria-labelledby="refused" {
                h2 id="refused" { "Refused" }
                ul { @for reason in refused { li.alert.bad { (short(&reason.to_string())) } } }
            }
        }
        section aria-labelledby="workers" {
            h2 id="workers" { "Workers" }
            @let workers = view.verger.workers();
            @if workers.is_empty() { (nothing("This process has no workers.")) }
            @for name in workers.iter().take(200) {
                article {
                    h3 id=(format!("worker-{}", encoded(name))) { (short(name)) }
                    (worker(view, name, withheld.iter().find(|withheld| withheld.worker == *name)))
                }
            }
        }
    };
    Ok(Answer::view("Plugins", content))
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
        p { a href=(view.ui.link(&format!("/jobs?worker={}", encoded(name)))) { "Its jobs" } }
    }
}
