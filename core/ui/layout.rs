//! The frame of every view.

use maud::{DOCTYPE, Markup, html};

use crate::ui::Ui;

/// The views, in the order of the navigation.
const VIEWS: [(&str, &str); 7] = [
    ("/", "Now"),
    ("/jobs", "Jobs"),
    ("/schedules", "Schedules"),
    ("/plugins", "Plugins"),
    ("/audit", "Audit log"),
    ("/charts", "Charts"),
    ("/doctor", "Doctor"),
];

pub(crate) fn page(ui: &Ui, path: &str, title: &str, content: &Markup) -> Markup {
    let current = |view: &str| match view {
        "/" => path == "/",
        "/jobs" => path == "/jobs" || path.starts_with("/job"),
        "/schedules" => path.starts_with("/schedule"),
        view => path.starts_with(view),
    };
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Verger" }
                link rel="stylesheet" href=(ui.link("/style.css"));
                link rel="icon" href=(ui.link("/icon.svg"));
                script src=(ui.link("/live.js")) defer {}
            }
            body {
                a.skip href="#content" { "Skip to the content" }
                header {
                    a.brand href=(ui.link("/")) { "Verger" }
                    nav aria-label="Views" {
                        ul {
                            @for (view, name) in VIEWS {
                                li {
                                    a href=(ui.link(view)) aria-current=[current(view).then_some("page")] { (name) }
                                }
                            }
                        }
                    }
                    label.live hidden { input type="checkbox" id="live" checked; " live" }
                }
                main id="content" tabindex="-1" { (content) }
                footer {
                    @if ui.changes { "This page may change things." } @else { "This page only shows: open it with " code { "--allow-changes" } " to change things." }
                    " " span id="status" role="status" {}
                }
            }
        }
    }
}

/// A form that changes something, as one button. It is empty if nothing may be changed.
pub(crate) fn button(
    ui: &Ui,
    action: &str,
    fields: &[(&str, &str)],
    label: &str,
    what: &str,
) -> Markup {
    html! {
        @if ui.changes {
            form.inline method="post" action=(ui.link(action)) {
                (secret(ui))
                @for (name, value) in fields { input type="hidden" name=(name) value=(value); }
                button type="submit" aria-label=(format!("{label} {what}")) { (label) }
            }
        }
    }
}

/// What proves that a form is the page's own.
pub(crate) fn secret(ui: &Ui) -> Markup {
    html! { input type="hidden" name="secret" value=(ui.secret); }
}
