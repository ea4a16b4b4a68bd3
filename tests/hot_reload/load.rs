//! Replacements while jobs run.

use serde_json::json;
use verger::{JobFilter, JobState, NewJob};

use super::{PATIENCE, Site, refused, until, version, worker};

/// Replaces a plugin so often while jobs of it are performed.
fn replacements(count: usize) {
    let site = Site::new();
    let cache = site.path("cache");
    let builder = || site.builder().compile_cache(verger::CompileCache::Folder(cache.clone()));
    site.drop_in("acme.wasm", &worker("acme", "0"));
    let verger = builder().open().unwrap();
    let ticking = verger.start().unwrap();
    let mut enqueued = 0;
    // Linux says how much a process has. Under Wine the same files tell of Wine's server instead,
    // which opens every file for the programs.
    let says = cfg!(target_os = "linux");
    let memory = || {
        if !says {
            return 0;
        }
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        pages.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
    };
    let open_files = || match says {
        true => std::fs::read_dir("/proc/self/fd").unwrap().count(),
        false => 0,
    };
    let mut before = (0, 0);
    for number in 1..=count {
        // By turns as an installer does it, and over the old bytes.
        let bytes = worker("acme", &number.to_string());
        match number % 2 {
            0 => site.drop_in("acme.wasm", &bytes),
            _ => std::fs::write(site.plugin("acme.wasm"), &bytes).unwrap(),
        }
        let jobs = (0..5).map(|_| NewJob::new("acme", json!({})));
        enqueued += verger.enqueue_all(jobs).unwrap().len();
        verger.refresh_plugins().unwrap();
        assert_eq!(version(&verger, "acme"), Some(number.to_string()), "{:?}", refused(&verger));
        if number == count / 10 {
            before = (memory(), open_files());
        }
    }
    until("all jobs are performed", || {
        verger.jobs(&JobFilter::new().state(JobState::Completed), u32::MAX).unwrap().len()
            == enqueued
    });
    let jobs = verger.jobs(&JobFilter::default(), u32::MAX).unwrap();
    assert!(jobs.iter().all(|job| job.attempt == 1 && job.errors.is_empty()));
    let grown = memory().saturating_sub(before.0);
    println!("{count} replacements: {} MB more, {} files", grown >> 20, open_files());
    assert!(grown < 128 << 20, "{} MB more", grown >> 20);
    assert!(open_files() < before.1 + 16);
    ticking.stop(PATIENCE).unwrap();
    let connection = verger.connect().unwrap();
    let one = |sql: &str| connection.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(one("SELECT count(DISTINCT digest) FROM verger_plugin_code"), 2);
    assert!(one("SELECT count(*) FROM verger_plugin_versions") <= 2);
    assert!(std::fs::read_dir(&cache).unwrap().count() <= 2, "the cache keeps what is needed");
}

#[test]
fn replacements_under_load_lose_nothing_and_leak_nothing() {
    replacements(10);
}

#[test]
#[ignore = "takes half an hour where the compiler is not optimised; started by name"]
fn a_thousand_replacements_under_load() {
    replacements(1_000);
}
