//! What a worker would do. It is called with some args, and everything is rolled back in the end.

use maud::{Markup, html};
use verger::verger_worker::Outcome;
use verger::{Error, JobId, Performance, RowChange, TableChange};

use super::{View, nothing};
use crate::answer::Answer;
use crate::layout::secret;
use crate::query::encoded;
use crate::stranger::{long, short};
use crate::words::{count, length};

/// A form that asks for a dry run, with these args to begin with.
pub(super) fn form(view: &View<'_>, worker: &str, args: &str) -> Markup {
    html! {
        form method="post" action=(view.ui.link("/worker/dry-run")) {
            (secret(view.ui))
            input type="hidden" name="name" value=(worker);
            p { label { "Args, a JSON object" br; textarea name="args" rows="4" spellcheck="false" { "\n" (args) } } }
            p { button type="submit" { "Dry run" } " "
                span.quiet { "Calls the worker and rolls back what it writes. Functions of the app that it calls, such as one that sends mail, are really called." } }
        }
    }
}

pub(super) fn view(view: &View<'_>) -> Result<Answer, Error> {
    // A job's args may be longer than a form, so they are read from the job.
    let (worker, args) = match view.query.number("job") {
        Some(id) => match view.verger.job(JobId::from_number(id))? {
            Some(job) => (job.worker, job.args.to_string()),
            None => return Ok(super::absent(format!("There is no job {id}."))),
        },
        None => (
            view.query.get("name").unwrap_or_default().to_string(),
            view.query.get("args").unwrap_or("{}").to_string(),
        ),
    };
    let performed = match verger::parse_args(&args) {
        Ok(args) => view.verger.dry_run(&worker, args).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let back = view.ui.link(&format!("/plugins#worker-{}", encoded(&worker)));
    let content = html! {
        h1 { "Dry run of " (short(&worker)) }
        p { a href=(back) { "The worker" } @if let Some(id) = view.query.number("job") { " · " (super::job_link(view, JobId::from_number(id))) } }
        @match &performed {
            Err(why) => p.alert.bad role="alert" { (long(why)) },
            Ok(performed) => (outcome(performed)),
        }
        section aria-labelledby="again" {
            h2 id="again" { "Again" }
            (form(view, &worker, &args))
        }
    };
    Ok(Answer::view("Dry run", content))
}

fn outcome(performed: &Performance) -> Markup {
    let shown: u64 = performed.rows.len() as u64;
    let changed: u64 =
        performed.changes.iter().map(|table| table.inserted + table.updated + table.deleted).sum();
    let took = u64::try_from(performed.elapsed.as_millis()).unwrap_or(u64::MAX);
    html! {
        p.alert.ok role="status" {
            @match &performed.outcome {
                Outcome::Snooze(seconds) => { "It asks to be called again in " (seconds) " s." },
                Outcome::Cancel(reason) => { "It cancels its job: " (short(reason)) },
                _ => "It is done.",
            }
            " It took " (length(took)) " and would have written "
            (count(performed.audited)) @if performed.audited == 1 { " audit row" } @else { " audit rows" }
            ". Everything was rolled back."
        }
        @if let Some(result) = performed.result() {
            section aria-labelledby="result" { h2 id="result" { "Result" } pre tabindex="0" { (long(&format!("{result:#}"))) } }
        }
        section aria-labelledby="tables" {
            h2 id="tables" { "Rows that would change" }
            @if performed.changes.is_empty() { (nothing("None.")) } @else { (tables(&performed.changes)) }
            @if !performed.rows.is_empty() { (rows(&performed.rows)) }
            @if changed > shown && shown > 0 { p.quiet { (count(changed - shown)) " more changes are not shown." } }
        }
    }
}

fn tables(changes: &[TableChange]) -> Markup {
    html! {
        div.scroll { table {
            thead { tr { th scope="col" { "Table" } th.number scope="col" { "Inserted" } th.number scope="col" { "Updated" } th.number scope="col" { "Deleted" } } }
            tbody { @for change in changes {
                tr { td { (short(&change.table)) } td.number { (count(change.inserted)) } td.number { (count(change.updated)) } td.number { (count(change.deleted)) } }
            } }
        } }
    }
}

/// Each row, with the columns that differ.
fn rows(rows: &[RowChange]) -> Markup {
    html! {
        div.scroll { table {
            caption.unseen { "Each row as it is and as it would be" }
            thead { tr { th scope="col" { "Row" } th scope="col" { "Column" } th scope="col" { "Before" } th scope="col" { "After" } } }
            tbody { @for row in rows {
                @let columns = columns(row);
                @for (place, (column, before, after)) in columns.iter().enumerate() {
                    tr {
                        @if place == 0 {
                            td rowspan=(columns.len()) {
                                (short(&row.table)) " " (row.rowid) " "
                                @match (&row.before, &row.after) {
                                    (None, _) => span.state.ok { "+ inserted" },
                                    (_, None) => span.state.bad { "− deleted" },
                                    _ => span.state.busy { "~ updated" },
                                }
                            }
                        }
                        td { (short(column)) }
                        td.wide { @if let Some(value) = before { code.break { (short(value)) } } @else { "—" } }
                        td.wide { @if let Some(value) = after { code.break { (short(value)) } } @else { "—" } }
                    }
                }
            } }
        } }
    }
}

/// A column, and its value before and after.
type Difference = (String, Option<String>, Option<String>);

fn columns(row: &RowChange) -> Vec<Difference> {
    let object = |side: &Option<serde_json::Value>| {
        side.as_ref().and_then(|value| value.as_object().cloned()).unwrap_or_default()
    };
    let (before, after) = (object(&row.before), object(&row.after));
    let names = if row.after.is_some() { &after } else { &before };
    let text = |value: Option<&serde_json::Value>| value.map(ToString::to_string);
    let mut columns: Vec<Difference> = names
        .keys()
        .filter(|name| before.get(*name) != after.get(*name))
        .map(|name| (name.clone(), text(before.get(name)), text(after.get(name))))
        .collect();
    // A row that was written unchanged still gets one line.
    if columns.is_empty() {
        columns.push((String::new(), None, None));
    }
    columns
}
