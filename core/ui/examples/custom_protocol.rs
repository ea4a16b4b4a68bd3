//! The page in a window of the app's own, without a server. The requests of a webview's custom
//! protocol go to `Ui::respond`, which returns the answers.
//!
//! With wry the handler below is the closure of `WebViewBuilder::with_custom_protocol`. With Tauri
//! it is that of `Builder::register_uri_scheme_protocol`. Both use the types of the crate `http`,
//! so nothing has to be translated. The window then opens `verger://localhost/`.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use http::{Request, Response};
use verger::{NewJob, Verger};
use verger_ui::Ui;

/// What the app keeps for as long as its window is open.
struct BackgroundWork {
    verger: Verger,
    page: Ui,
}

impl BackgroundWork {
    /// The handler of the custom protocol.
    fn handle(&self, request: Request<Vec<u8>>) -> Response<Vec<u8>> {
        self.page.respond(&self.verger, request)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let verger = Verger::in_memory().open()?;
    verger.enqueue_unchecked(NewJob::new("send-report", serde_json::json!({"to": "me"})))?;
    let work = BackgroundWork { verger, page: Ui::new().allow_changes() };

    // What the webview sends when the window opens.
    let response = work.handle(Request::get("verger://localhost/jobs").body(Vec::new())?);
    println!("{} {}", response.status(), String::from_utf8_lossy(response.body()));
    Ok(())
}
