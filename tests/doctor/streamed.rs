//! Litestream beside the file, and a log that grows because somebody reads it all the time.

use std::time::{Duration, Instant};

use verger::rusqlite::Connection;

use super::{Site, message, wrong};

#[test]
fn a_file_that_litestream_streams_and_a_copy_that_it_restored_are_recognised() {
    let site = Site::new();
    assert_eq!(site.examine().facts.litestream, Some(false));
    site.sql(
        "CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER); CREATE TABLE _litestream_lock (id INTEGER)",
    );
    let restored = site.examine();
    assert!(restored.is_well(), "{:?}", restored.findings);
    assert_eq!(restored.facts.litestream, Some(true));
    assert!(message(&restored, "litestream").contains("a copy that was restored"));
    std::fs::create_dir(site.folder.path().join(".app.db-litestream")).unwrap();
    let streamed = site.examine();
    let finding = streamed.findings.iter().find(|finding| finding.code == "litestream").unwrap();
    assert!(finding.message.contains("only one machine may write"), "{finding:?}");
    assert!(finding.mend.as_ref().unwrap().starts_with("verger audit verify --db "));

    site.sql("PRAGMA journal_mode = DELETE");
    let diagnosis = site.examine();
    assert_eq!(wrong(&diagnosis), ["journal-mode", "litestream"]);
    assert!(message(&diagnosis, "litestream").contains("it copies nothing now"));
    site.doctor().fix(Some("journal-mode")).unwrap();
    assert!(site.examine().is_well());
}

#[test]
fn a_long_log_is_cut_and_a_reader_that_never_ends_keeps_no_writer_waiting_for_it() {
    let site = Site::new();
    let app = Connection::open(site.path()).unwrap();
    app.busy_timeout(Duration::from_secs(30)).unwrap();
    app.execute_batch(
        "PRAGMA synchronous = OFF; PRAGMA wal_autocheckpoint = 0; CREATE TABLE filler (id INTEGER PRIMARY KEY, bytes BLOB);
         INSERT INTO filler VALUES (1, zeroblob(40000000))",
    )
    .unwrap();
    let reader = Connection::open(site.path()).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM filler").unwrap();
    assert_eq!(wrong(&site.examine()), ["long-log"]);
    let doctor = site.doctor();
    let fixing = std::thread::spawn(move || doctor.fix(None).unwrap());
    let mut longest = Duration::ZERO;
    while !fixing.is_finished() {
        let begun = Instant::now();
        app.execute("UPDATE filler SET bytes = zeroblob(1)", []).unwrap();
        longest = longest.max(begun.elapsed());
    }
    assert!(fixing.join().unwrap()[0].done.contains("could not be folded back whole"));
    assert!(longest < Duration::from_secs(2), "a writer waited {longest:?}");
    // Litestream is such a reader: what it leaves is no fault.
    site.sql("CREATE TABLE _litestream_lock (id INTEGER)");
    let streamed = site.examine();
    assert!(streamed.is_well(), "{:?}", streamed.findings);
    assert!(message(&streamed, "long-log").contains("Litestream reads it"));
    assert_eq!(site.doctor().fix(None).unwrap(), []);
    site.sql("DROP TABLE _litestream_lock");
    drop(reader);
    assert_eq!(site.doctor().fix(None).unwrap()[0].done, "the log was folded back into the file");
    assert!(site.examine().is_well());
}
