//! A schedule as a line of time: its slots past and coming, and how long its jobs ran.

use maud::{Markup, html};
use verger::{
    Error, Expression, FireRow, JobState, Reason, ScheduleRow, SlotOutcome, Timestamp, parse_zone,
};

use super::View;
use crate::query::Query;
use crate::stranger::plain;
use crate::svg::{self, Scale};
use crate::words::{length, relative};

/// The most slots that are drawn on either side.
const SLOTS_MAX: usize = 300;

/// The most jobs whose run times are drawn.
const RUNS_MAX: usize = 60;

const HEIGHT: u32 = 64;
const LINE: u32 = 32;

/// The time that is shown: as much before now as asked for, and a third of that after.
pub(super) struct Window {
    from: i64,
    until: i64,
    hours: i64,
}

impl Window {
    pub(super) fn of(view: &View<'_>) -> Self {
        let hours = view.query.number("hours").unwrap_or(24).clamp(1, 24 * 31);
        let span = hours * 3_600_000;
        Self {
            from: view.now.saturating_sub(span),
            until: view.now.saturating_add(span / 3),
            hours,
        }
    }

    /// The links to other spans of time.
    pub(super) fn choice(&self, view: &View<'_>, place: &str) -> Markup {
        let (path, query) = place.split_once('?').unwrap_or((place, ""));
        let query = Query::parse(query.as_bytes());
        html! {
            nav.choice aria-label="Span of time" {
                @for (hours, name) in [(1, "1 hour"), (6, "6 hours"), (24, "1 day"), (168, "1 week"), (744, "1 month")] {
                    a href=(view.ui.link(&format!("{path}?{}", query.with("hours", Some(&hours.to_string())))))
                        aria-current=[(hours == self.hours).then_some("true")] { (name) }
                    " "
                }
            }
        }
    }
}

/// What its expression means.
pub(super) fn meaning(row: &ScheduleRow) -> String {
    match row.expression.parse::<Expression>() {
        Ok(expression) => format!("{}, {}", expression.describe(), plain(&row.timezone)),
        Err(error) => plain(&error.to_string()),
    }
}

pub(super) fn word(fire: &FireRow) -> &'static str {
    match (fire.outcome, &fire.reason) {
        (_, Some(Reason::RunNow)) => "run by hand",
        (SlotOutcome::Enqueued, _) => "made a job",
        (SlotOutcome::Coalesced, _) => "stands for several",
        (SlotOutcome::Skipped, _) => "skipped",
    }
}

pub(super) fn class(fire: &FireRow) -> &'static str {
    match fire.outcome {
        SlotOutcome::Enqueued => "state ok",
        SlotOutcome::Coalesced => "state busy",
        SlotOutcome::Skipped => "state warn",
    }
}

pub(super) fn legend() -> Markup {
    html! {
        p.legend.quiet {
            svg.key viewBox="0 0 14 14" aria-hidden="true" { circle.slot.enqueued cx="7" cy="7" r="5" {} } " made a job "
            svg.key viewBox="0 0 14 14" aria-hidden="true" { path.slot.coalesced d="M7 1l6 6-6 6-6-6z" {} } " stands for several "
            svg.key viewBox="0 0 14 14" aria-hidden="true" { path.slot.skipped d="M2 2l10 10M12 2l-10 10" {} } " skipped "
            svg.key viewBox="0 0 14 14" aria-hidden="true" { circle.slot.coming cx="7" cy="7" r="5" {} } " to come "
            svg.key viewBox="0 0 14 14" aria-hidden="true" { rect.run x="1" y="5" width="12" height="5" {} } " how long its job ran"
        }
    }
}

pub(super) fn draw(view: &View<'_>, row: &ScheduleRow, window: &Window) -> Result<Markup, Error> {
    let scale = Scale::new(window.from, window.until);
    let mut fires = view.verger.fires(&row.name, SLOTS_MAX as u32)?;
    fires.retain(|fire| fire.slot.as_millis() >= window.from);
    let coming = coming(view, row, window);
    let runs = runs(view, &fires)?;
    let counted = |outcome| fires.iter().filter(|fire| fire.outcome == outcome).count();
    let label = format!(
        "{}: {} slots made a job, {} stand for several, {} were skipped, {} to come",
        plain(&row.name),
        counted(SlotOutcome::Enqueued),
        counted(SlotOutcome::Coalesced),
        counted(SlotOutcome::Skipped),
        coming.len()
    );
    Ok(html! {
        svg.timeline role="img" aria-label=(label) {
            line.axis x1="0" x2="100%" y1=(LINE) y2=(LINE) {}
            @for (at, name) in svg::ticks(window.from, window.until) {
                line.tick x1=(scale.x(at)) x2=(scale.x(at)) y1=(LINE - 4) y2=(LINE + 4) {}
                text.axis-text x=(scale.x(at)) y=(HEIGHT - 6) { (name) }
            }
            line.now x1=(scale.x(view.now)) x2=(scale.x(view.now)) y1="4" y2=(HEIGHT - 16) {}
            @for (from, until, state) in runs {
                @let wide = scale.wide(from, until);
                rect class=(if state == JobState::Discarded { "run bad" } else { "run" }) x=(scale.x(from)) y=(LINE + 5) width=(wide) height="7" {
                    title { "ran " (length(until.saturating_sub(from).max(0).unsigned_abs())) }
                }
            }
            @for fire in &fires { (slot(fire, &scale)) }
            @for at in coming {
                circle.slot.coming cx=(scale.x(at)) cy=(LINE) r="5" { title { (Timestamp::from_millis(at)) " (" (relative(at, view.now)) "): to come" } }
            }
        }
    })
}

fn slot(fire: &FireRow, scale: &Scale) -> Markup {
    let x = scale.x(fire.slot.as_millis());
    let why = plain(&fire.explain());
    let y = LINE;
    match fire.outcome {
        SlotOutcome::Enqueued => {
            html! { circle.slot.enqueued cx=(x) cy=(y) r="5" { title { (why) } } }
        }
        SlotOutcome::Coalesced => {
            html! { svg.mark x=(x) y=(y) { path.slot.coalesced d="M0-6l6 6-6 6-6-6z" { title { (why) } } } }
        }
        SlotOutcome::Skipped => {
            html! { svg.mark x=(x) y=(y) { path.slot.skipped d="M-5-5l10 10m0-10l-10 10" { title { (why) } } } }
        }
    }
}

/// The slots to come in the window.
fn coming(view: &View<'_>, row: &ScheduleRow, window: &Window) -> Vec<i64> {
    let (Ok(expression), Ok(zone)) =
        (row.expression.parse::<Expression>(), parse_zone(&row.timezone))
    else {
        return Vec::new();
    };
    let mut slots: Vec<i64> =
        row.next_fire_at.filter(|_| !row.paused).map(Timestamp::as_millis).into_iter().collect();
    while let Some(last) = slots.last().copied()
        && slots.len() < SLOTS_MAX
        && last < window.until
    {
        let after = Timestamp::from_millis(last.max(view.now));
        match expression.next_after(after, zone, row.anchor) {
            Some(next) => slots.push(next.as_millis()),
            None => break,
        }
    }
    slots.retain(|slot| (window.from..window.until).contains(slot));
    slots
}

/// When the jobs of these slots ran.
fn runs(view: &View<'_>, fires: &[FireRow]) -> Result<Vec<(i64, i64, JobState)>, Error> {
    let mut runs = Vec::new();
    for job in fires.iter().filter_map(|fire| fire.job).take(RUNS_MAX) {
        if let Some(job) = view.verger.job(job)?
            && let Some(from) = job.attempted_at
        {
            let until = job.finished_at.map_or(view.now, Timestamp::as_millis);
            runs.push((from.as_millis(), until, job.state));
        }
    }
    Ok(runs)
}
