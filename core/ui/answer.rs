//! What a view answers, and the headers that every answer has.

use http::{Response, StatusCode, header};
use maud::{Markup, html};

use crate::layout;
use crate::ui::Ui;

/// Allows only what the page brings itself: no inline script or style, no other site, no frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// An answer before its headers.
pub(crate) enum Answer {
    /// A view: its title and its content.
    View(StatusCode, &'static str, Markup),
    /// A file of the page.
    File(&'static str, &'static str),
    /// A file to download, by this name.
    Download(&'static str, &'static str, Vec<u8>),
    /// Redirects to this address.
    See(String),
    /// A sentence.
    Text(StatusCode, String),
}

impl Answer {
    pub(crate) fn view(title: &'static str, content: Markup) -> Self {
        Self::View(StatusCode::OK, title, content)
    }

    pub(crate) fn text(status: StatusCode, text: impl Into<String>) -> Self {
        Self::Text(status, text.into())
    }

    /// The database could not be read or written.
    pub(crate) fn failed(error: &dyn std::error::Error) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(source) = cause {
            let said = source.to_string();
            if !text.contains(&said) {
                text.push_str(&format!(": {said}"));
            }
            cause = source.source();
        }
        let content = html! {
            h1 { "That did not work" }
            p.alert.bad role="alert" { (crate::stranger::long(&text)) }
        };
        Self::View(StatusCode::INTERNAL_SERVER_ERROR, "Failed", content)
    }

    /// The response to a request for this path. A part is the content of the view alone.
    pub(crate) fn finish(self, ui: &Ui, path: &str, is_part: bool) -> Response<Vec<u8>> {
        let html = "text/html; charset=utf-8";
        match self {
            Self::View(status, _, content) if is_part => {
                response(status, html, content.into_string().into_bytes())
            }
            Self::View(status, title, content) => {
                let page = layout::page(ui, path, title, &content);
                response(status, html, page.into_string().into_bytes())
            }
            Self::File(kind, text) => {
                let mut file = response(StatusCode::OK, kind, text.as_bytes().to_vec());
                set(&mut file, header::CACHE_CONTROL, "no-cache");
                file
            }
            Self::Download(kind, name, bytes) => {
                let mut file = response(StatusCode::OK, kind, bytes);
                let value = format!("attachment; filename=\"{name}\"");
                set(&mut file, header::CONTENT_DISPOSITION, &value);
                file
            }
            Self::See(place) => {
                let mut see =
                    response(StatusCode::SEE_OTHER, "text/plain; charset=utf-8", Vec::new());
                set(&mut see, header::LOCATION, &place);
                see
            }
            Self::Text(status, text) => {
                response(status, "text/plain; charset=utf-8", text.into_bytes())
            }
        }
    }

    pub(crate) fn into_response(self) -> Response<Vec<u8>> {
        self.finish(&Ui::new(), "/", false)
    }
}

pub(crate) fn not_found(ui: &Ui, path: &str) -> Answer {
    let content = html! {
        h1 { "There is no such view" }
        p { (crate::stranger::short(path)) " is no view of this page. " a href=(ui.link("/")) { "Back to what happens now" } "." }
    };
    Answer::View(StatusCode::NOT_FOUND, "Not found", content)
}

fn response(status: StatusCode, kind: &str, body: Vec<u8>) -> Response<Vec<u8>> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        set(&mut response, name, value);
    }
    set(
        &mut response,
        header::HeaderName::from_static("cross-origin-opener-policy"),
        "same-origin",
    );
    set(
        &mut response,
        header::HeaderName::from_static("cross-origin-resource-policy"),
        "same-origin",
    );
    response
}

fn set(response: &mut Response<Vec<u8>>, name: header::HeaderName, value: &str) {
    // An invalid header value, as from an address with a line break, is left out.
    if let Ok(value) = header::HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}
