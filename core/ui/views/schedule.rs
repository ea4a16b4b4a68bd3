//! One schedule: its rule, and what became of each slot in words.

use maud::html;
use verger::{Error, SlotOutcome};

use super::{View, absent, job_link, nothing, timeline};
use crate::answer::Answer;
use crate::layout::button;
use crate::stranger::{long, plain, short};
use crate::words::{length, opt_time, time};

/// Lines of the ledger that are shown.
const LINES: u32 = 100;

pub(super) fn view(view: &View<'_>) -> Result<Answer, Error> {
    let name = view.query.get("name").unwrap_or_default();
    let rows = view.verger.schedules()?;
    let row = rows.iter().find(|row| row.name == name);
    let fires = view.verger.fires(name, LINES)?;
    if row.is_none() && fires.is_empty() {
        return Ok(absent(format!("There is no schedule {}.", plain(name))));
    }
    let window = timeline::Window::of(view);
    let content = html! {
        h1 { (short(name)) }
        @if let Some(done) = view.query.get("done") { p.alert role="status" { (short(done)) } }
        @match row {
            None => p.alert.warn { "It is a schedule no more; its ledger stays." },
            Some(row) => {
                @let back = format!("/schedule?name={}", crate::query::encoded(name));
                @let fields = [("name", name), ("back", back.as_str())];
                div.bar {
                    @if row.paused { (button(view.ui, "/schedule/resume", &fields, "Resume", name)) }
                    @else { (button(view.ui, "/schedule/pause", &fields, "Pause", name)) }
                    (button(view.ui, "/schedule/run", &fields, "Run now", name))
                }
                @for unreadable in &row.unreadable {
                    p.alert.bad { "Its column " (short(unreadable.column)) " cannot be read: " (short(&unreadable.why)) }
                }
                (window.choice(view, &back))
                (timeline::draw(view, row, &window)?)
                (timeline::legend())
                dl {
                    dt { "When" } dd { (timeline::meaning(row)) @if row.paused { ", but it is paused" } }
                    dt { "Next slot" } dd { (opt_time(row.next_fire_at, view.now)) }
                    dt { "Worker" } dd { (short(&row.worker)) ", queue " (short(&row.queue)) }
                    dt { "Missed slots" } dd { (row.missed) }
                    dt { "Overlap" } dd { (row.overlap) }
                    @if let Some(deadline) = row.deadline_ms { dt { "Start deadline" } dd { (length(deadline.max(0).unsigned_abs())) } }
                    dt { "Args" } dd { pre tabindex="0" { (long(&row.args)) } }
                }
            }
        }
        section aria-labelledby="slots" {
            h2 id="slots" { "What became of its slots" }
            @if fires.is_empty() { (nothing("No slot has come yet.")) }
            @else {
                ol.slots {
                    @for fire in &fires {
                        li.skipped[fire.outcome == SlotOutcome::Skipped] {
                            (time(fire.slot, view.now)) " "
                            span class=(timeline::class(fire)) { (timeline::word(fire)) }
                            " " (short(&fire.explain()))
                            @if let Some(job) = fire.job { " " (job_link(view, job)) }
                        }
                    }
                }
            }
        }
    };
    Ok(Answer::view("Schedule", content))
}
