//! What each view shows, and what its forms change.

use http::Request;
use verger::{JobId, JobState};
use verger_ui::Ui;

use crate::site::{Site, secret};

const VIEWS: [&str; 12] = [
    "/",
    "/jobs",
    "/jobs?state=discarded",
    "/job/1",
    "/schedules",
    "/schedules?hours=168",
    "/schedule?name=hourly",
    "/plugins",
    "/audit",
    "/audit/verify",
    "/charts",
    "/doctor?look=1",
];

#[test]
fn a_person_finds_out_why_a_job_failed_and_why_a_slot_was_skipped() {
    let (site, ui) = (Site::busy(), Ui::new());
    assert!(site.get(&ui, "/").contains("the mail server is away"));
    let job = site.get(&ui, "/job/2");
    assert!(job.contains("the mail server is away") && job.contains("discarded"), "{job}");
    let hourly = site.get(&ui, "/schedule?name=hourly");
    assert!(hourly.contains("it stands for the 4 slots before it too"), "{hourly}");
    assert!(site.get(&ui, "/job/3").contains("hourly"));
    let strict = site.get(&ui, "/schedule?name=strict");
    assert!(strict.contains("the schedule does not make up for it"), "{strict}");
    assert!(strict.contains("class=\"slot skipped\""));
    assert!(site.get(&ui, "/audit").contains("thing.done"));
    assert!(site.get(&ui, "/audit/verify").contains("The log is whole"));
    assert!(site.get(&ui, "/charts?hours=24").contains("1 failed for good"));
    assert!(site.get(&ui, "/plugins").contains("works"));
    assert!(site.get(&ui, "/metrics").contains("# TYPE"));
    let export = site.get(&ui, "/audit/export");
    assert!(export.lines().all(|line| line.starts_with('{')) && export.contains("thing.done"));
}

#[test]
fn every_view_is_whole_has_one_heading_and_runs_nothing_of_its_own() {
    let site = Site::busy();
    for ui in [Ui::new(), Ui::new().allow_changes(), Ui::new().mount("/tools/verger/")] {
        let mount = if format!("{ui:?}").contains("/tools/verger") { "/tools/verger" } else { "" };
        for view in VIEWS {
            let path = format!("{mount}{view}");
            let response = site.ask(&ui, Request::get(&path).body(Vec::new()).unwrap());
            assert_eq!(response.status(), 200, "{path}");
            let policy = response.headers()["content-security-policy"].to_str().unwrap();
            assert!(
                policy.contains("default-src 'none'") && !policy.contains("unsafe"),
                "{policy}"
            );
            let html = String::from_utf8(response.into_body()).unwrap();
            assert_eq!(html.matches("<h1").count(), 1, "{path}");
            assert!(html.ends_with("</html>") && html.contains("lang=\"en\""), "{path}");
            for never in [" style=\"", " onclick=", "<style", "javascript:", "http://", "https://"]
            {
                assert!(!html.contains(never), "{path} has {never}");
            }
            assert_eq!(html.matches("<script").count(), 1, "{path}");
            let outside =
                html.split("href=\"").skip(1).chain(html.split("action=\"").skip(1)).filter(
                    |rest| !rest.starts_with('#') && !rest.starts_with(&format!("{mount}/")),
                );
            assert_eq!(outside.count(), 0, "{path}");
            // The part that a script asks for is what the page has in it.
            let part = Request::get(&path).header("x-verger-part", "1").body(Vec::new()).unwrap();
            let part = String::from_utf8(site.ask(&ui, part).into_body()).unwrap();
            assert!(part.starts_with("<h1") && html.contains(&part), "{path}");
        }
    }
}

#[test]
fn a_page_that_only_shows_has_no_forms_and_takes_none() {
    let (site, ui) = (Site::busy(), Ui::new());
    for view in VIEWS {
        assert!(!site.get(&ui, view).contains("method=\"post\""), "{view}");
        assert!(!site.get(&ui, view).contains("name=\"secret\""), "{view}");
    }
    for path in ["/jobs/retry", "/jobs/cancel", "/queue/pause", "/schedule/run", "/jobs/many"] {
        assert_eq!(site.post(&ui, path, "id=2&name=default").status(), 403, "{path}");
    }
    assert_eq!(site.verger.job(JobId::from_number(2)).unwrap().unwrap().state, JobState::Discarded);
}

#[test]
fn a_form_changes_what_it_says_and_only_with_the_pages_secret() {
    let (site, ui) = (Site::busy(), Ui::new().allow_changes());
    let html = site.get(&ui, "/jobs");
    let secret = secret(&html).to_string();
    let state = |id| site.verger.job(JobId::from_number(id)).unwrap().unwrap().state;
    for form in ["id=2", "id=2&secret=", "id=2&secret=00000000000000000000000000000000"] {
        assert_eq!(site.post(&ui, "/jobs/retry", form).status(), 403, "{form}");
    }
    let elsewhere = Request::post("/jobs/retry")
        .header("sec-fetch-site", "cross-site")
        .body(format!("id=2&secret={secret}").into_bytes())
        .unwrap();
    assert_eq!(site.ask(&ui, elsewhere).status(), 403);
    assert_eq!(state(2), JobState::Discarded);

    let send = |path: &str, form: &str| site.post(&ui, path, &format!("secret={secret}&{form}"));
    let done = send("/jobs/retry", "id=2&back=/job/2");
    assert_eq!(done.status(), 303);
    assert!(done.headers()["location"].to_str().unwrap().starts_with("/job/2?done="));
    assert_eq!(state(2), JobState::Available);
    let many = send("/jobs/many", "do=cancel&id=1&id=2&back=/jobs");
    let said = many.headers()["location"].to_str().unwrap();
    assert!(said.contains("1%20job%20is%20cancelled"), "{said}");
    assert_eq!((state(1), state(2)), (JobState::Completed, JobState::Cancelled));

    send("/queue/pause", "name=mail");
    assert_eq!(site.verger.paused_queues().unwrap(), ["mail"]);
    send("/queue/resume", "name=mail");
    assert_eq!(site.verger.paused_queues().unwrap(), [""; 0]);
    send("/schedule/pause", "name=hourly");
    assert!(site.get(&ui, "/schedule?name=hourly").contains("it is paused"));
    let run = send("/schedule/run", "name=strict&back=/schedules");
    assert!(run.headers()["location"].to_str().unwrap().contains("is%20made"));
    assert_eq!(send("/nothing", "").status(), 404);
}

#[test]
fn what_is_not_there_is_a_page_that_says_so() {
    let (site, ui) = (Site::busy(), Ui::new());
    for path in ["/job/99", "/job/x", "/schedule?name=none", "/nothing", "/../etc/passwd"] {
        let response = site.ask(&ui, Request::get(path).body(Vec::new()).unwrap());
        assert_eq!(response.status(), 404, "{path}");
        assert!(String::from_utf8(response.into_body()).unwrap().contains("<h1"), "{path}");
    }
    let put = Request::put("/").body(Vec::new()).unwrap();
    assert_eq!(site.ask(&ui, put).status(), 405);
    let head = Request::head("/").body(Vec::new()).unwrap();
    assert_eq!(site.ask(&ui, head).into_body().len(), 0);
    let moved = Request::get("/jobs?id=2").body(Vec::new()).unwrap();
    assert_eq!(site.ask(&ui, moved).headers()["location"], "/job/2");
    assert_eq!(
        verger_ui::respond(&site.verger, Request::get("/").body(vec![]).unwrap()).status(),
        200
    );
    assert!(site.folder.path().join("app.db").is_file());
}
