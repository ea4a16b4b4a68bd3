//! All schedules on one line of time each.

use maud::html;
use verger::Error;

use super::{View, nothing, timeline};
use crate::answer::Answer;
use crate::layout::button;
use crate::query::encoded;
use crate::stranger::{plain, short};
use crate::words::{opt_time, time};

pub(super) fn view(view: &View<'_>) -> Result<Answer, Error> {
    let window = timeline::Window::of(view);
    let rows = view.verger.schedules()?;
    let content = html! {
        h1 { "Schedules" }
        (window.choice(view, "/schedules"))
        @if rows.is_empty() { (nothing("There are no schedules.")) }
        @else { (timeline::legend()) }
        @for row in rows.iter().take(100) {
            article.schedule {
                h2 { a href=(view.ui.link(&format!("/schedule?name={}", encoded(&row.name)))) { (short(&row.name)) }
                    @if row.paused { " " span.state.warn { "paused" } } }
                p.quiet {
                    (timeline::meaning(row)) ". "
                    @if let Some(last) = row.last_slot { "Last slot " (time(last, view.now)) ", next " } @else { "Next slot " }
                    (opt_time(row.next_fire_at, view.now)) "."
                }
                (timeline::draw(view, row, &window)?)
                @let fields = [("name", row.name.as_str()), ("back", "/schedules")];
                @let name = format!("schedule {}", plain(&row.name));
                div.bar {
                    @if row.paused { (button(view.ui, "/schedule/resume", &fields, "Resume", &name)) }
                    @else { (button(view.ui, "/schedule/pause", &fields, "Pause", &name)) }
                    (button(view.ui, "/schedule/run", &fields, "Run now", &name))
                }
            }
        }
    };
    Ok(Answer::view("Schedules", content))
}
