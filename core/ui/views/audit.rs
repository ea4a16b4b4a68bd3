//! The audit log.

use maud::{Markup, html};
use verger::{AuditFilter, AuditRow, ChainError, Error};

use super::{View, job_link, nothing};
use crate::answer::Answer;
use crate::query::Query;
use crate::stranger::{long, short};
use crate::words::{count, time};

/// Rows on one page.
const PAGE: u32 = 50;

/// The most rows of an export.
const EXPORT_MAX: u32 = 100_000;

fn filter(query: &Query) -> AuditFilter {
    let text = |name: &str| query.get(name).map(|value| value.trim().to_string());
    AuditFilter {
        action: text("action"),
        organization_id: text("organization"),
        worker: text("worker"),
        job: query.number("job"),
        before_id: query.number("before"),
    }
}

pub(super) fn view(view: &View<'_>) -> Result<Answer, Error> {
    let rows = view.verger.audit_log(&filter(view.query), PAGE)?;
    let value = |name: &str| view.query.get(name).unwrap_or_default().to_string();
    let more = rows.last().filter(|_| rows.len() == PAGE as usize).map(|row| row.id);
    let content = html! {
        h1 { "Audit log" }
        form.filter role="search" method="get" action=(view.ui.link("/audit")) {
            label { "Action " input type="search" name="action" value=(value("action")); }
            label { "Organization " input type="search" name="organization" value=(value("organization")); }
            label { "Worker " input type="search" name="worker" value=(value("worker")); }
            label { "Job " input type="text" inputmode="numeric" name="job" size="8" value=(value("job")); }
            button type="submit" { "Show" }
        }
        div.bar {
            a href=(view.ui.link("/audit/verify")) { "Check the whole log" } " "
            a href=(view.ui.link("/audit/export")) download { "Export it as JSON lines" }
        }
        @if rows.is_empty() { (nothing("No row fits.")) } @else { (table(view, &rows)) }
        @if let Some(last) = more {
            p { a rel="next" href=(view.ui.link(&format!("/audit?{}", view.query.with("before", Some(&last.to_string()))))) { "Older rows" } }
        }
    };
    Ok(Answer::view("Audit log", content))
}

/// Rows, each with its details folded away.
pub(super) fn table(view: &View<'_>, rows: &[AuditRow]) -> Markup {
    html! {
        div.scroll {
            table {
                thead { tr { th.number scope="col" { "Row" } th scope="col" { "When" } th scope="col" { "Action" } th scope="col" { "Outcome" } th scope="col" { "Organization" } th scope="col" { "Who" } th scope="col" { "What" } } }
                tbody { @for row in rows { (line(view, row)) } }
            }
        }
    }
}

fn line(view: &View<'_>, row: &AuditRow) -> Markup {
    let or_dash = |text: &Option<String>| match text {
        Some(text) => short(text),
        None => html! { "—" },
    };
    let class = if row.outcome == "success" { "state ok" } else { "state bad" };
    html! {
        tr {
            td.number { (row.id) }
            td { (time(row.occurred_at, view.now)) }
            td { (short(&row.action)) }
            td { span class=(class) { (short(&row.outcome)) } }
            td { (or_dash(&row.organization_id)) }
            td { @if row.actor_id.is_some() { (or_dash(&row.actor_id)) } @else { (or_dash(&row.worker)) } @if let Some(job) = row.job { " " (job_link(view, job)) } }
            td.wide {
                details id=(format!("row-{}", row.id)) {
                    summary { (or_dash(&row.subject_id)) }
                    @for (name, text) in [("Before", &row.before), ("After", &row.after), ("More", &row.metadata)] {
                        @if let Some(text) = text { p { (name) ": " code.break { (long(text)) } } }
                    }
                    p { "Hash " code.break { (short(&row.hash)) } }
                }
            }
        }
    }
}

pub(super) fn verify(view: &View<'_>) -> Result<Answer, Error> {
    let said = match view.verger.verify_audit() {
        Ok(verified) => html! {
            p.alert.ok role="status" {
                "The log is whole: " (count(verified.rows)) " rows"
                @if verified.pruned > 0 { ", after " (count(verified.pruned)) " that retention took out" }
                "."
            }
        },
        Err(ChainError::Store(error)) => return Err(Error::Store(error)),
        Err(error) => html! { p.alert.bad role="alert" { (short(&error.to_string())) } },
    };
    let content = html! {
        h1 { "The audit log, checked" }
        (said)
        p.quiet { "Each row carries a hash over the one before: what was changed by hand shows. Who can write the file and knows this could make a log anew; against that, keep an export elsewhere." }
        p { a href=(view.ui.link("/audit")) { "Back to the log" } }
    };
    Ok(Answer::view("Audit log", content))
}

pub(super) fn export(view: &View<'_>) -> Result<Answer, Error> {
    let mut lines = Vec::new();
    let (mut after, mut left) = (view.query.number("after").unwrap_or(0), EXPORT_MAX);
    while left > 0 {
        let page = view.verger.audit_log_after(after, left.min(1_000))?;
        let Some(last) = page.last() else { break };
        (after, left) = (last.id, left.saturating_sub(1_000));
        for row in &page {
            lines.extend(serde_json::to_vec(row).unwrap_or_default());
            lines.push(b'\n');
        }
    }
    Ok(Answer::Download("application/x-ndjson", "audit.jsonl", lines))
}
