//! What is wrong with the database.

use maud::html;
use verger::{Error, Severity};

use super::{View, nothing};
use crate::answer::Answer;
use crate::stranger::short;
use crate::words::count;

pub(super) fn view(view: &View<'_>) -> Result<Answer, Error> {
    if view.query.get("look").is_none() {
        let content = html! {
            h1 { "Doctor" }
            p { "Reads the database through and says what is wrong with it, and which command mends it. It takes some seconds for a large file, and changes nothing." }
            p { a.button href=(view.ui.link("/doctor?look=1")) { "Look now" } }
        };
        return Ok(Answer::view("Doctor", content));
    }
    let diagnosis = view.verger.doctor()?;
    let content = html! {
        h1 { "Doctor" }
        @if diagnosis.is_well() { p.alert.ok role="status" { "Nothing is wrong." } }
        @for finding in &diagnosis.findings {
            @let class = match finding.severity { Severity::Note => "alert", Severity::Warning => "alert warn", Severity::Error => "alert bad" };
            article class=(class) {
                p { strong { (finding.severity) } " " (short(&finding.message)) }
                @if let Some(mend) = &finding.mend { pre tabindex="0" { (short(mend)) } }
            }
        }
        section aria-labelledby="room" {
            h2 id="room" { "Room" }
            @if diagnosis.facts.tables.is_empty() { (nothing("The file is too large to be read whole here: `verger doctor --thorough` does it.")) }
            @else {
                div.scroll { table {
                    thead { tr { th scope="col" { "Table" } th.number scope="col" { "Rows" } th.number scope="col" { "Bytes" } th.number scope="col" { "Unused" } } }
                    tbody { @for table in diagnosis.facts.tables.iter().take(30) {
                        tr { td { (short(&table.table)) } td.number { (table.rows.map(count).unwrap_or_default()) } td.number { (count(table.bytes)) } td.number { (count(table.unused_bytes)) } }
                    } }
                } }
            }
        }
    };
    Ok(Answer::view("Doctor", content))
}
