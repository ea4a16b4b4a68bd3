//! Throughput, waiting and failure over time.

use std::time::Duration;

use maud::{Markup, html};
use verger::{Error, HistorySpan, Timestamp};

use super::View;
use crate::answer::Answer;
use crate::svg::{self, Percent, tenth};
use crate::words::{count, length};

const SPANS: u32 = 48;
const HEIGHT: f64 = 160.0;

pub(super) fn view(view: &View<'_>) -> Result<Answer, Error> {
    let hours = view.query.number("hours").unwrap_or(24).clamp(1, 24 * 31);
    let span = hours * 3_600_000 / i64::from(SPANS);
    // Spans begin at round times, so that a column keeps its meaning.
    let until = view.now.div_euclid(span).saturating_add(1).saturating_mul(span);
    let from = until.saturating_sub(span.saturating_mul(SPANS.into()));
    let spans = view.verger.history(
        Timestamp::from_millis(from),
        Duration::from_millis(span.unsigned_abs()),
        SPANS,
    )?;
    let content = html! {
        h1 { "Charts" }
        nav.choice aria-label="Span of time" {
            @for (choice, name) in [(1, "1 hour"), (6, "6 hours"), (24, "1 day"), (168, "1 week"), (744, "1 month")] {
                a href=(view.ui.link(&format!("/charts?hours={choice}"))) aria-current=[(choice == hours).then_some("true")] { (name) }
                " "
            }
        }
        (throughput(&spans, from, until))
        (waiting("wait", "How long jobs waited", "After they were due, until they began.", &spans, |span| span.wait_ms, (from, until)))
        (waiting("run", "How long jobs ran", "Their last attempts.", &spans, |span| span.run_ms, (from, until)))
        (numbers(&spans))
    };
    Ok(Answer::view("Charts", content))
}

fn throughput(spans: &[HistorySpan], from: i64, until: i64) -> Markup {
    let most = spans.iter().map(|span| span.completed + span.discarded + span.cancelled).max();
    let most = most.unwrap_or(0).max(1);
    let (done, failed): (u64, u64) =
        spans.iter().fold((0, 0), |sum, span| (sum.0 + span.completed, sum.1 + span.discarded));
    let wide = 100.0 / spans.len().max(1) as f64;
    let high = |number: u64| tenth(number as f64 / most as f64 * HEIGHT);
    html! {
        section aria-labelledby="throughput" {
            h2 id="throughput" { "How jobs ended" }
            p { (count(done)) " completed, " (count(failed)) " failed for good."
                @if done + failed > 0 { " The highest column: " (count(most)) "." }
                @if spans.iter().any(|span| span.is_estimate) { " Where many ended, the numbers are estimates." } }
            svg.chart role="img" aria-label=(format!("{done} jobs completed, {failed} failed for good")) {
                @for (place, span) in spans.iter().enumerate() {
                    @let x = Percent(place as f64 * wide + wide * 0.1);
                    @let (ok, bad, idle) = (high(span.completed), high(span.discarded), high(span.cancelled));
                    g {
                        title { (span.from) ": " (count(span.completed)) " completed, " (count(span.discarded)) " failed, " (count(span.cancelled)) " cancelled" }
                        rect.bar-ok x=(x) width=(Percent(wide * 0.8)) y=(tenth(HEIGHT - ok)) height=(ok) {}
                        rect.bar-idle x=(x) width=(Percent(wide * 0.8)) y=(tenth(HEIGHT - ok - idle)) height=(idle) {}
                        rect.bar-bad x=(x) width=(Percent(wide * 0.8)) y=(tenth(HEIGHT - ok - idle - bad)) height=(bad) {}
                    }
                }
                (axis(from, until))
            }
            p.legend.quiet {
                svg.key viewBox="0 0 14 14" aria-hidden="true" { rect.bar-ok width="14" height="14" {} } " completed "
                svg.key viewBox="0 0 14 14" aria-hidden="true" { rect.bar-idle width="14" height="14" {} } " cancelled "
                svg.key viewBox="0 0 14 14" aria-hidden="true" { rect.bar-bad width="14" height="14" {} } " failed for good"
            }
        }
    }
}

fn waiting(
    id: &str,
    title: &str,
    about: &str,
    spans: &[HistorySpan],
    of: fn(&HistorySpan) -> Option<[u64; 2]>,
    (from, until): (i64, i64),
) -> Markup {
    let most = spans.iter().filter_map(of).map(|[_, high]| high).max().unwrap_or(0).max(1);
    let series = |place: usize| -> Vec<Option<u64>> {
        spans.iter().map(|span| of(span).and_then(|both| both.get(place).copied())).collect()
    };
    html! {
        section aria-labelledby=(id) {
            h2 id=(id) { (title) }
            p { (about) @if spans.iter().any(|span| of(span).is_some()) { " The top of the chart: " (length(most)) "." } }
            svg.chart role="img" aria-label=(format!("{title}, at most {}", length(most))) {
                svg width="100%" height=(HEIGHT) viewBox=(format!("0 0 {} {HEIGHT}", svg::WIDTH)) preserveAspectRatio="none" {
                    path.line-high d=(svg::line(&series(1), most, HEIGHT)) {}
                    path.line-low d=(svg::line(&series(0), most, HEIGHT)) {}
                }
                (axis(from, until))
            }
            p.legend.quiet {
                svg.key viewBox="0 0 14 14" aria-hidden="true" { polyline.line-low points="0,7 14,7" {} } " half of them, at most "
                svg.key viewBox="0 0 14 14" aria-hidden="true" { polyline.line-high points="0,7 14,7" {} } " 95 of 100, at most"
            }
        }
    }
}

fn axis(from: i64, until: i64) -> Markup {
    let scale = svg::Scale::new(from, until);
    html! {
        line.axis x1="0" x2="100%" y1=(HEIGHT) y2=(HEIGHT) {}
        @for (at, name) in svg::ticks(from, until) {
            line.tick x1=(scale.x(at)) x2=(scale.x(at)) y1=(HEIGHT) y2=(HEIGHT + 4.0) {}
            text.axis-text x=(scale.x(at)) y=(HEIGHT + 18.0) { (name) }
        }
    }
}

/// The same as numbers, for people who do not see the drawings.
fn numbers(spans: &[HistorySpan]) -> Markup {
    let busy = |span: &&HistorySpan| span.completed + span.discarded + span.cancelled > 0;
    html! {
        details id="numbers" {
            summary { "The same in numbers" }
            div.scroll {
                table {
                    thead { tr { th scope="col" { "From" } th.number scope="col" { "Completed" } th.number scope="col" { "Failed" } th.number scope="col" { "Cancelled" } th.number scope="col" { "Waited (half)" } th.number scope="col" { "Ran (half)" } } }
                    tbody {
                        @for span in spans.iter().filter(busy) {
                            tr {
                                td { (span.from) }
                                td.number { (count(span.completed)) }
                                td.number { (count(span.discarded)) }
                                td.number { (count(span.cancelled)) }
                                td.number { @if let Some([half, _]) = span.wait_ms { (length(half)) } }
                                td.number { @if let Some([half, _]) = span.run_ms { (length(half)) } }
                            }
                        }
                    }
                }
            }
        }
    }
}
