//! The page in Chromium, if it is there: the page's script runs, and the policy stops nothing of
//! its own.

use std::process::Command;

use verger_ui::{Server, Ui};

use crate::site::Site;

#[test]
fn the_script_runs_and_the_policy_stops_nothing_of_the_pages_own() {
    let chromium = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|name| {
        Command::new(name).arg("--version").output().is_ok_and(|output| output.status.success())
    });
    let Some(chromium) = chromium else {
        eprintln!("SKIPPED: there is no Chromium here");
        return;
    };
    let site = Site::busy();
    let server = Server::bind(Ui::new().allow_changes(), 0).unwrap();
    let stopper = server.stopper();
    std::thread::scope(|scope| {
        scope.spawn(|| server.serve(&site.verger));
        let views = ["/", "/jobs", "/schedule?name=hourly", "/charts"].map(|view| {
            let url = server.url();
            let (base, token) = url.split_once("/?token=").unwrap();
            let sign = if view.contains('?') { '&' } else { '?' };
            let profile = tempfile::tempdir().unwrap();
            let output = Command::new(chromium)
                .args([
                    "--headless",
                    "--no-sandbox",
                    "--disable-gpu",
                    "--disable-quic",
                    "--no-first-run",
                ])
                .args([
                    "--disable-background-networking",
                    "--disable-component-update",
                    "--disable-sync",
                ])
                .args(["--virtual-time-budget=3000", "--enable-logging=stderr", "--dump-dom"])
                .arg(format!("--user-data-dir={}", profile.path().display()))
                .arg(format!("{base}{view}{sign}token={token}"))
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            (view, String::from_utf8_lossy(&output.stdout).into_owned(), said)
        });
        stopper.stop();
        for (view, dom, said) in views {
            assert!(dom.contains("<h1"), "{view}: {dom}{said}");
            assert!(
                dom.contains("<label class=\"live\">"),
                "{view}: the script did not run: {said}"
            );
            for never in ["Content Security Policy", "Uncaught", "SyntaxError"] {
                assert!(!said.contains(never), "{view}: {said}");
            }
        }
    });
}
