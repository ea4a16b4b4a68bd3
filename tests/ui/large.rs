//! Each view of a file with a million jobs.

use std::time::{Duration, Instant};

use http::Request;
use verger::Verger;
use verger::rusqlite::Connection;
use verger_ui::Ui;

const JOBS: i64 = 1_000_000;

/// What a view may take: the middle one of five.
const LONGEST: Duration = Duration::from_millis(100);

/// Jobs as a year of an app leaves them: one in a thousand failed, a hundred thousand wait.
fn fill(path: &std::path::Path, now: i64) {
    let file = Connection::open(path).unwrap();
    file.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
         INSERT INTO verger_jobs (worker, queue, state, args, due_at, created_at, attempted_at, finished_at, attempt, errors, result)
         SELECT 'worker-' || i % 7, 'queue-' || i % 5, s,
             json_object('customer', i % 9973, 'note', 'an invoice of the month ' || i % 12), t, t,
             CASE WHEN s = 'available' THEN NULL ELSE t + i % 900 END, CASE WHEN s = 'available' THEN NULL ELSE t + 1000 + i % 900 END,
             s <> 'available', CASE WHEN s = 'discarded' THEN json_array(json_object('attempt', 1, 'at', t, 'code', 'failed', 'message', 'the mail server is away')) END,
             CASE WHEN s = 'completed' THEN '{\"sent\":3}' END
         FROM (SELECT i, ?2 - (?1 - i) * 2000 AS t, CASE WHEN i % 1000 = 0 THEN 'discarded' WHEN i % 10 = 1 THEN 'available' ELSE 'completed' END AS s FROM n)",
        [JOBS, now],
    )
    .unwrap();
}

#[test]
#[ignore = "makes a file of half a gigabyte: started by name"]
fn each_view_of_a_million_jobs_takes_100_ms_at_most() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.db");
    let verger = Verger::builder(&path).open().unwrap();
    fill(&path, verger.now().as_millis());
    let ui = Ui::new().allow_changes();
    let mut slow = Vec::new();
    for view in [
        "/",
        "/jobs",
        "/jobs?state=discarded",
        "/jobs?state=available",
        "/jobs?state=completed",
        "/jobs?state=discarded&worker=worker-1",
        "/jobs?state=available&worker=worker-1",
        "/jobs?state=available&worker=none",
        "/jobs?state=retryable&worker=none",
        "/jobs?state=executing&worker=none",
        "/jobs?worker=none",
        "/jobs?queue=none&before=900000",
        "/jobs?text=nowhere",
        "/jobs?text=month%207",
        "/jobs?filter=error~nowhere",
        "/jobs?filter=args.customer%3D12",
        "/jobs?filter=tag%3Dnone",
        "/job/500000",
        "/schedules",
        "/plugins",
        "/audit",
        "/audit?action=none",
        "/charts?hours=1",
        "/charts?hours=24",
        "/charts?hours=168",
        "/charts?hours=744",
        "/doctor",
        "/metrics",
    ] {
        let mut times: Vec<Duration> = (0..5)
            .map(|_| {
                let begun = Instant::now();
                let response = ui.respond(&verger, Request::get(view).body(Vec::new()).unwrap());
                assert_eq!(response.status(), 200, "{view}");
                begun.elapsed()
            })
            .collect();
        let first = times[0];
        times.sort_unstable();
        eprintln!("{view}: {:.1?}, the first time {first:.1?}", times[2]);
        if times[2] > LONGEST {
            slow.push(view);
        }
    }
    // Verbs on all that fit: asking how many, and each request that goes on.
    for (verb, filter) in [
        ("delete", "text~%22month%207%22"),
        ("cancel", "state=available"),
        ("retry", "worker=worker-1"),
        ("delete", "text~nowhere"),
        ("delete", ""),
    ] {
        let view = format!("/jobs/all?do={verb}&filter={filter}");
        let begun = Instant::now();
        let response = ui.respond(&verger, Request::get(&view).body(Vec::new()).unwrap());
        let asked = begun.elapsed();
        let html = String::from_utf8(response.into_body()).unwrap();
        let mut times = vec![asked];
        assert!(html.contains("<h1>"), "{html}");
        let mut form = (html.contains("name=\"secret\""))
            .then(|| format!("do={verb}&filter={filter}&secret={}", crate::site::secret(&html)));
        while let Some(sent) = form.take().filter(|_| times.len() < 30) {
            let request = Request::post("/jobs/all").body(sent.into_bytes()).unwrap();
            let begun = Instant::now();
            let response = ui.respond(&verger, request);
            times.push(begun.elapsed());
            let html = String::from_utf8(response.into_body()).unwrap();
            form = crate::changes::form_that_goes_on(&html);
        }
        let requests = times.len();
        times.sort_unstable();
        let (middle, longest) = (times[requests / 2], times[requests - 1]);
        eprintln!(
            "{view}: asking {asked:.1?}, {requests} requests {middle:.1?}, longest {longest:.1?}"
        );
        if middle > LONGEST || asked > LONGEST {
            slow.push("a verb on all that fit");
        }
    }
    assert!(slow.is_empty(), "{slow:?}");
}
