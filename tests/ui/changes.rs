//! Searching, and the forms that change many jobs, try a worker, or decide about a plugin.

use http::{Request, Response, StatusCode};
use serde_json::json;
use verger::{JobFilter, JobId, JobState, NewJob};
use verger_ui::Ui;

#[cfg(feature = "wasm")]
use crate::puppet::puppet_as;
use crate::site::{Site, secret};

fn body(response: Response<Vec<u8>>) -> String {
    String::from_utf8(response.into_body()).unwrap()
}

/// The numbers of the jobs that a list links to.
fn listed(html: &str) -> Vec<i64> {
    let rows = html.split("<tbody>").nth(1).unwrap_or("");
    rows.split("/job/")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap().parse().unwrap())
        .collect()
}

#[test]
fn a_text_is_found_in_ids_workers_args_and_errors() {
    let (site, ui) = (Site::busy(), Ui::new());
    let quote = NewJob::new("works", json!({"note": "He said \"Ünder\" \\ and\nleft"}));
    let quoted = site.verger.enqueue(quote).unwrap().id.number();
    for (text, expected) in [
        ("MAIL%20SERVER", vec![2]),
        ("%22%C3%9Cnder%22%20%5C%20and%0Aleft", vec![quoted]),
        ("later", vec![quoted - 1]),
        ("3", vec![3]),
        ("nowhere", vec![]),
        ("%25", vec![]),
    ] {
        assert_eq!(listed(&site.get(&ui, &format!("/jobs?text={text}"))), expected, "{text}");
    }
    let all = listed(&site.get(&ui, "/jobs?text=WORKS"));
    assert_eq!(all, listed(&site.get(&ui, "/jobs")));
    assert_eq!(listed(&site.get(&ui, "/jobs?filter=schedule%3Dhourly&text=works&before=4")), [3]);
    // A slip of the pen lists nothing, rather than everything.
    for query in ["filter=stat%3Ddiscarded", "state=nonsense", "filter=id%3E", "state=%22"] {
        let html = site.get(&ui, &format!("/jobs?{query}"));
        assert!(html.contains("the filter cannot be read") && listed(&html).is_empty(), "{query}");
    }
}

#[test]
fn a_verb_on_all_that_fit_asks_first_and_does_what_it_asked() {
    let (site, ui) = (Site::busy(), Ui::new().allow_changes());
    let jobs: Vec<_> = (0..70)
        .map(|_| site.verger.enqueue(NewJob::new("works", json!({"many": 1}))).unwrap().id)
        .collect();
    let list = site.get(&ui, "/jobs?text=many");
    assert_eq!(listed(&list).len(), 50);
    assert!(list.contains("name=\"filter\" value=\"text~many\""), "{list}");
    let asked = site.get(&ui, "/jobs/all?filter=text~many&do=cancel");
    assert!(asked.contains("Cancel 70 jobs?"), "{asked}");
    let newest = jobs[69].number();
    let filter = format!("value=\"text~many id&lt;={newest}\"");
    assert!(asked.contains(&filter), "{asked}");
    assert_eq!(site.verger.job(jobs[0]).unwrap().unwrap().state, JobState::Available);
    // One that comes meanwhile is not meant.
    let late = site.verger.enqueue(NewJob::new("works", json!({"many": 2}))).unwrap().id;
    let send =
        |form: &str| site.post(&ui, "/jobs/all", &format!("{form}&secret={}", secret(&asked)));
    let form = format!("do=cancel&filter=text~many+id%3C%3D{newest}&back=/jobs");
    assert_eq!(site.post(&ui, "/jobs/all", &form).status(), 403);
    let done = send(&form);
    assert!(done.headers()["location"].to_str().unwrap().contains("70%20jobs%20are%20cancelled"));
    let state = |id: JobId| site.verger.job(id).unwrap().map(|job| job.state);
    assert!(jobs.iter().all(|id| state(*id) == Some(JobState::Cancelled)));
    assert_eq!(state(late), Some(JobState::Available));
    send(&format!("do=retry&filter=id%3D{}", jobs[3]));
    assert_eq!(state(jobs[3]), Some(JobState::Available));
    send(&format!("do=delete&filter=id%3D{}", jobs[3]));
    assert_eq!(state(jobs[3]), None);
    let before = site.verger.count_jobs(&JobFilter::new()).unwrap();
    for form in ["do=delete", "do=delete&filter=stat%3Dx", "do=drop&filter=", "filter="] {
        assert_eq!(send(form).status(), StatusCode::BAD_REQUEST, "{form}");
    }
    assert_eq!(site.verger.count_jobs(&JobFilter::new()).unwrap(), before);
    assert!(site.get(&ui, "/jobs/all?filter=text~nowhere&do=delete").contains("No job that fits"));
    let marked = site.post(
        &ui,
        "/jobs/many",
        &format!("do=delete&id={}&secret={}", jobs[5], secret(&asked)),
    );
    assert_eq!((marked.status().as_u16(), state(jobs[5])), (303, None));
}

#[test]
fn a_parked_job_says_why() {
    let (site, ui) = (Site::new(), Ui::new());
    let later = NewJob::new("works", json!({})).args_version(7);
    let later = site.verger.enqueue_unchecked(later).unwrap().id;
    let nobody = site.verger.enqueue_unchecked(NewJob::new("nobody", json!({}))).unwrap().id;
    let html = site.get(&ui, &format!("/job/{later}"));
    assert!(html.contains("knows them up to version 1") && html.contains("version 7"), "{html}");
    let html = site.get(&ui, &format!("/job/{nobody}"));
    assert!(html.contains("no worker named `nobody` is here"), "{html}");
}

/// The fields of the form that goes on, as the page's script sends them.
pub(crate) fn form_that_goes_on(html: &str) -> Option<String> {
    let form = html.split("data-go-on").nth(1)?.split("</form>").next().unwrap();
    let fields = form.split("<input type=\"hidden\" name=\"").skip(1).map(|field| {
        let (name, rest) = field.split_once("\" value=\"").unwrap();
        let value = rest.split_once('"').unwrap().0;
        let value = value.replace("&lt;", "<").replace("&quot;", "\"").replace("&amp;", "&");
        let value: String = value.bytes().map(|byte| format!("%{byte:02x}")).collect();
        format!("{name}={value}")
    });
    Some(fields.collect::<Vec<_>>().join("&"))
}

#[test]
fn a_verb_on_very_many_answers_soon_and_goes_on_until_all_are_done() {
    let (site, ui) = (Site::new(), Ui::new().allow_changes());
    let file = site.verger.connect().unwrap();
    file.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)
         INSERT INTO verger_jobs (worker, queue, state, args, due_at, created_at, attempt)
         SELECT 'works', 'default', 'available', '{\"many\":1}', 0, 0, 0 FROM n",
        [],
    )
    .unwrap();
    // One of them is not meant.
    file.execute("UPDATE verger_jobs SET args = '{}' WHERE id = 7000", []).unwrap();
    let asked = site.get(&ui, "/jobs/all?filter=text~many&do=delete");
    // How far they were counted in the time there was depends on the machine.
    let is_counted = asked.contains("name=\"total\" value=\"19999\"");
    let says = if is_counted { "Delete 19,999 jobs?" } else { "Delete at least " };
    assert!(asked.contains(says), "{asked}");
    let secret = secret(&asked).to_string();
    let mut form = format!("do=delete&filter=text~many&back=%2Fjobs&total=19999&secret={secret}");
    let mut answers = 0;
    let place = loop {
        let answer = site.post(&ui, "/jobs/all", &form);
        answers += 1;
        if answer.status() == 303 {
            break answer.headers()["location"].to_str().unwrap().to_string();
        }
        let html = body(answer);
        assert!(html.contains("Deleting jobs") && html.contains(" of 19,999"), "{html}");
        assert!(html.contains("Stop here"), "{html}");
        form = form_that_goes_on(&html).unwrap();
        // Without the secret nothing goes on.
        let bare = form.replace("secret=", "nothing=");
        assert_eq!(site.post(&ui, "/jobs/all", &bare).status(), 403);
        assert!(answers < 20_000);
    };
    assert!(answers > 1, "it was to be more than one request takes");
    assert_eq!(place, "/jobs?done=19%2C999%20jobs%20are%20deleted%2E");
    let left = site.verger.jobs(&JobFilter::new(), 9).unwrap();
    // The newest of the file is emptied and cancelled, for its id must not be given again.
    let ids: Vec<_> = left.iter().map(|job| (job.id.number(), job.state)).collect();
    assert_eq!(ids, [(20_000, JobState::Cancelled), (7_000, JobState::Available)]);
    let audited: i64 = file
        .query_row(
            "SELECT sum(json_extract(metadata, '$.count')) FROM verger_audit WHERE action = 'jobs.deleted'",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(audited, 19_999);
}

#[test]
fn a_dry_run_shows_each_row_before_and_after_and_keeps_nothing() {
    let (site, ui) = (Site::busy(), Ui::new().allow_changes());
    let file = site.verger.connect().unwrap();
    let text = "<script>boo()</script>";
    file.execute_batch("CREATE TABLE things (id INTEGER PRIMARY KEY, name TEXT)").unwrap();
    file.execute("INSERT INTO things VALUES (1, ?1), (2, 'two')", [text]).unwrap();
    let plugins = site.get(&ui, "/plugins");
    let run = |form: &str| {
        let form = format!("{form}&secret={}", secret(&plugins));
        body(site.post(&ui, "/worker/dry-run", &form))
    };
    let args = "{\"sql\":[\"UPDATE things SET name = name || '!' WHERE id = 1\",\"DELETE FROM things WHERE id = 2\"]}";
    let encoded: String = args.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let html = run(&format!("name=hand&args={encoded}"));
    for expected in ["boo()&lt;/script&gt;!", "~ updated", "− deleted", "two", "rolled back"] {
        assert!(html.contains(expected), "{expected}: {html}");
    }
    assert_eq!(html.matches("<script").count(), 1, "{html}");
    let names: String =
        file.query_row("SELECT group_concat(name) FROM things", [], |row| row.get(0)).unwrap();
    assert_eq!(names, format!("{text},two"));
    // A job's own args, and what cannot be run.
    assert!(run("job=2").contains("the mail server is away"));
    for (form, expected) in [
        ("name=hand&args=%7B", "role=\"alert\""),
        ("name=none&args=%7B%7D", "none"),
        ("name=%3Cb%3E&args=%3Cb%3E", "&lt;b&gt;"),
        ("job=99", "There is no job 99"),
    ] {
        let html = run(form);
        assert!(html.contains(expected) && !html.contains("<b>"), "{form}: {html}");
    }
}

#[test]
fn a_page_that_only_shows_refuses_each_of_these() {
    let (site, ui) = (Site::busy(), Ui::new());
    let forms = [
        ("/jobs/all", "do=delete&filter="),
        ("/jobs/many", "do=delete&id=2"),
        ("/worker/dry-run", "name=hand&args={}"),
        ("/plugin/approve", "name=acme&who=ann"),
        ("/plugin/deny", "name=acme&who=ann"),
        ("/plugin/revoke", "name=acme&who=ann"),
    ];
    for (path, form) in forms {
        assert_eq!(site.post(&ui, path, form).status(), 403, "{path}");
        // Nor without the secret where changes are allowed.
        assert_eq!(site.post(&Ui::new().allow_changes(), path, form).status(), 403, "{path}");
    }
    let ask = Request::get("/jobs/all?do=delete&filter=").body(Vec::new()).unwrap();
    assert_eq!(site.ask(&ui, ask).status(), 403);
    assert!(!site.get(&ui, "/jobs").contains("/jobs/all"));
    assert!(site.verger.job(JobId::from_number(2)).unwrap().is_some());
}

#[cfg(feature = "wasm")]
#[test]
fn a_person_decides_in_the_page_about_the_version_they_were_shown() {
    use verger::ConsentState;

    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("plugins")).unwrap();
    let drop_in = |version: &str, reason: &str| {
        let bytes = puppet_as(&json!({
            "name": "acme", "version": version, "args": {"do": {"default": []}},
            "tables": [{"table": "things", "verbs": ["insert"], "reason": reason}], "capabilities": [],
        }));
        std::fs::write(folder.path().join("new"), bytes).unwrap();
        std::fs::rename(folder.path().join("new"), folder.path().join("plugins/acme.wasm"))
            .unwrap();
    };
    drop_in("1.0.0", "<b>to count</b>");
    let verger = verger::Verger::builder(folder.path().join("app.db"))
        .without_built_ins()
        .plugins(folder.path().join("plugins"))
        .open()
        .unwrap();
    let (shows, ui) = (Ui::new(), Ui::new().allow_changes());
    let get =
        |ui: &Ui| body(ui.respond(&verger, Request::get("/plugins").body(Vec::new()).unwrap()));
    assert!(get(&shows).contains("waits for somebody to decide"));
    assert!(get(&shows).contains("Waiting for a decision") && !get(&shows).contains("Refused"));
    assert!(!get(&shows).contains("/plugin/approve"));
    let page = get(&ui);
    assert!(page.contains("It adds rows to the table things: &lt;b&gt;to count"), "{page}");
    assert!(!page.contains("<b>"));
    let digest = page.split("name=\"digest\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let send = |path: &str, digest: &str, who: &str| {
        let form =
            format!("name=acme&digest={digest}&who={who}&back=/plugins&secret={}", secret(&page));
        let request = Request::post(path).body(form.into_bytes()).unwrap();
        let response = ui.respond(&verger, request);
        assert_eq!(response.status(), 303, "{path}");
        response.headers()["location"].to_str().unwrap().to_string()
    };
    let state = || verger.consent("acme").unwrap().unwrap().state;
    // Nobody, and what was not shown.
    send("/plugin/approve", digest, "");
    send("/plugin/approve", &"0".repeat(64), "ann");
    assert!(send("/plugin/deny", &"0".repeat(64), "ann").contains("Another%20version"));
    assert_eq!(state(), ConsentState::Waiting);
    assert!(send("/plugin/deny", digest, "ann").contains("denied"));
    assert_eq!(state(), ConsentState::Denied);
    assert!(send("/plugin/approve", digest, "ann").contains("approved"));
    assert_eq!(state(), ConsentState::Granted);
    assert!(get(&shows).contains("has all it asks for"));
    assert!(send("/plugin/revoke", digest, "ann").contains("without%20its%20grants"));
    assert_eq!(state(), ConsentState::Denied);
    let audit = verger.audit_log(&verger::AuditFilter::default(), 9).unwrap();
    assert!(
        audit
            .iter()
            .any(|row| row.action == "plugin.revoked" && row.actor_id.as_deref() == Some("ann"))
    );
}
