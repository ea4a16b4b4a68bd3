//! `verger plugin grants`, `approve`, `deny`, `revoke` and `rollback`.

use serde_json::{Value as Json, json};

use super::handmade::Handmade;
use super::harness::{Site, object, objects, refusal, said, text};

fn acme(version: &str, verbs: &[&str]) -> Vec<u8> {
    let manifest = json!({
        "name": "acme", "version": version,
        "tables": [{"table": "memberships", "verbs": verbs, "reason": "to count members"}],
    });
    Handmade::described(manifest.to_string()).bytes()
}

/// A site with a plugins folder that has this file.
fn site(bytes: &[u8]) -> (Site, String) {
    let site = Site::new();
    let plugins = site.folder.path("plugins");
    std::fs::create_dir(&plugins).unwrap();
    std::fs::write(plugins.join("acme.wasm"), bytes).unwrap();
    (site, plugins.to_str().unwrap().to_string())
}

fn tick(site: &Site, plugins: &str) -> (Json, String) {
    let (out, err) = said(0, &["tick", "--db", site.db(), "--plugins", plugins, "--json"]);
    (serde_json::from_str(&out).unwrap(), err)
}

#[test]
fn a_person_decides_what_a_dropped_in_worker_may_do() {
    let (site, plugins) = site(&acme("1", &["read"]));
    site.sql("INSERT INTO verger_jobs (worker) VALUES ('acme')");
    let (report, err) = tick(&site, &plugins);
    assert_eq!(report["attempts"], json!([]));
    assert!(err.contains("waits for someone to decide: it asks for read memberships"), "{err}");
    // The file knows what was asked: no folder needs to be named.
    let told = text(&["plugin", "grants", "acme", "--db", site.db()]);
    assert!(told.contains("It reads rows of the table memberships: to count members."), "{told}");
    assert!(refusal(&["plugin", "grants", "nobody", "--db", site.db()]).contains("nobody"));
    let approve = ["plugin", "approve", "acme", "--db", site.db(), "--by", "ann"];
    assert_eq!(object(0, &approve)["state"], "granted");
    let (report, err) = tick(&site, &plugins);
    assert_eq!((&report["attempts"][0]["outcome"], err.as_str()), (&json!("completed"), ""));
    let grants = objects(&["plugin", "grants", "--db", site.db()]);
    assert_eq!(
        (&grants[0]["what"], &grants[0]["decided_by"]),
        (&json!("read memberships"), &json!("ann"))
    );
    assert!(text(&["plugin", "grants", "--db", site.db()]).contains("granted"));
    text(&["plugin", "revoke", "acme", "--db", site.db(), "--by", "bob"]);
    site.sql("INSERT INTO verger_jobs (worker) VALUES ('acme')");
    assert_eq!(tick(&site, &plugins).0["attempts"], json!([]));
    let again = ["plugin", "revoke", "acme", "--db", site.db(), "--by", "bob"];
    assert!(refusal(&again).contains("nothing was granted to it"));
    let digest = "0".repeat(64);
    let of_another = [&approve[..], &["--sha256", &digest]].concat();
    assert!(refusal(&of_another).contains("it is version 1 now"));
}

#[test]
fn a_version_is_rolled_back_from_the_file_alone() {
    let (site, plugins) = site(&acme("1", &[]));
    tick(&site, &plugins);
    assert!(refusal(&["plugin", "rollback", "acme", "--db", site.db()]).contains("no version"));
    std::fs::write(site.folder.path("plugins/acme.wasm"), acme("2", &[])).unwrap();
    tick(&site, &plugins);
    let back = object(0, &["plugin", "rollback", "acme", "--db", site.db()]);
    assert_eq!(back["version"], "1");
    site.sql("INSERT INTO verger_jobs (worker) VALUES ('acme')");
    let (_, err) = tick(&site, &plugins);
    assert!(err.contains("version 2 of `acme`") && err.contains("was rolled back"), "{err}");
    let job = object(0, &["jobs", "show", "1", "--db", site.db()]);
    assert_eq!((&job["state"], &job["worker_version"]), (&json!("completed"), &json!("1")));
    text(&["plugin", "approve", "acme", "--db", site.db(), "--by", "ann"]);
    assert_eq!(tick(&site, &plugins).1, "");
}

#[test]
fn inspect_tells_whose_the_name_is_and_what_a_new_version_asks_for_beyond_its_grant() {
    let (site, plugins) = site(&acme("1", &["read"]));
    let ours = std::path::Path::new(&plugins).join("acme.wasm").to_str().unwrap().to_string();
    let inspect = |file: &str| object(0, &["plugin", "inspect", file, "--db", site.db()]);
    assert_eq!(inspect(&ours)["database"]["binding"], json!(null));
    tick(&site, &plugins);
    text(&["plugin", "approve", "acme", "--db", site.db(), "--by", "ann"]);
    let told = &inspect(&ours)["database"];
    assert_eq!(told["bound_to_this_file"], json!(true));
    assert_eq!((&told["beyond_granted"], &told["beyond_version"]), (&json!([]), &json!([])));
    let newer = site.folder.path("newer.wasm");
    std::fs::write(&newer, acme("2", &["read", "delete"])).unwrap();
    let newer = newer.to_str().unwrap();
    let told = inspect(newer);
    let database = &told["database"];
    assert_eq!(database["bound_to_this_file"], json!(false));
    assert_eq!(database["binding"]["version"], json!("1"));
    assert_ne!(database["binding"]["sha256"], told["sha256"]);
    assert_eq!(database["beyond_granted"], json!(["delete memberships"]));
    assert_eq!(database["beyond_version"], json!(["delete on table memberships"]));
    let told = text(&["plugin", "inspect", newer, "--db", site.db()]);
    for part in [
        "THE NAME `acme` BELONGS TO ANOTHER FILE",
        "version 1, ",
        "it asks for what was not granted there, and waits until it is\n    delete memberships",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    // Nothing was bound, or granted, by looking.
    assert_eq!(inspect(&ours)["database"]["bound_to_this_file"], json!(true));
    assert!(refusal(&["plugin", "inspect", newer, "--db", "/no/such.db"]).contains("no database"));
}
