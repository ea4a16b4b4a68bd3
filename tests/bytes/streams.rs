//! Standard streams, instances and times.

use std::time::{Duration, Instant};

use serde_json::json;
use verger::testing::{TestVerger, capture_logs};
use verger::{CompileCache, Grant, JobState, Limits, NewJob, PerformError, Timestamp, Verger};

use super::limited;
use super::log::lines_of;
#[cfg(target_os = "linux")]
use super::resident;
use crate::common;
use crate::common::{BOTH, TABLES, job, row, run};
use crate::handmade::{EXPORTS, Handmade};

const STREAMS: &str = r#"
    (import "wasi:io/error@0.2.0" (instance $errors (export "error" (type (sub resource)))))
    (alias export $errors "error" (type $io-error))
    (import "wasi:io/streams@0.2.0" (instance $streams
        (alias outer 1 $io-error (type $io-error'))
        (export "output-stream" (type $stream (sub resource)))
        (type $failure (variant (case "last-operation-failed" (own $io-error')) (case "closed")))
        (export "stream-error" (type $failure' (eq $failure)))
        (export "[method]output-stream.write" (func (param "self" (borrow $stream))
            (param "contents" (list u8)) (result (result (error $failure')))))))
    (alias export $streams "output-stream" (type $stream))
    (import "wasi:cli/stdout@0.2.0" (instance $stdout
        (alias outer 1 $stream (type $stream'))
        (export "get-stdout" (func (result (own $stream'))))))"#;

/// Fills its memory with short lines and writes them all at once. What is there is copied behind
/// itself, so that it takes an interpreter no longer than a machine.
const FLOOD: &str = r#"
    (core func $stdout (canon lower (func $stdout "get-stdout")))
    (core func $write (canon lower (func $streams "[method]output-stream.write")
        (memory $libc "memory") (realloc (func $libc "realloc"))))
    (core module $flood
        (import "libc" "memory" (memory 0))
        (import "io" "stdout" (func $stdout (result i32)))
        (import "io" "write" (func $write (param i32 i32 i32 i32)))
        (func (export "perform") (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
            (local $filled i32)
            (i32.store (i32.const 65536) (i32.const 0x0a610a61))
            (local.set $filled (i32.const 4))
            (loop $on
                (memory.copy (i32.add (i32.const 65536) (local.get $filled)) (i32.const 65536)
                    (local.get $filled))
                (local.set $filled (i32.mul (local.get $filled) (i32.const 2)))
                (br_if $on (i32.lt_u (local.get $filled) (i32.const 30000000))))
            (memory.copy (i32.add (i32.const 65536) (local.get $filled)) (i32.const 65536)
                (i32.sub (i32.const 63934464) (local.get $filled)))
            (loop $on
                (call $write (call $stdout) (i32.const 65536) (i32.const 63900000) (i32.const 96))
                (br $on))
            i32.const 16))
    (core instance $flood (instantiate $flood (with "libc" (instance $libc))
        (with "io" (instance (export "stdout" (func $stdout)) (export "write" (func $write))))))"#;

#[cfg(target_os = "linux")]
#[test]
fn a_flood_on_the_standard_streams_ends_with_the_time_granted_and_takes_no_memory() {
    let wasm = Handmade::new("handmade")
        .memory(r#"(memory (export "memory") 1000)"#)
        .fields(STREAMS)
        .exports(format!("{FLOOD}{}", EXPORTS.replace("$main \"perform\"", "$flood \"perform\"")))
        .bytes();
    let limits = Limits::new().time(Duration::from_millis(300)).log_lines(20);
    let test = TestVerger::with(|builder| {
        builder
            .component("lines.wasm", wasm)
            .grant("handmade", Grant::new().limits(limits))
            .without_built_ins()
    });
    test.perform_job("handmade", json!({})).unwrap_err();
    let (begun, before) = (Instant::now(), resident("VmRSS"));
    let (ended, lines) = capture_logs(|| test.perform_job("handmade", json!({})));
    match ended {
        Err(PerformError::Failed { source, .. }) => assert_eq!(source.code, "deadline"),
        other => panic!("{other:?}"),
    }
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    assert_eq!(lines_of(lines, "handmade").len(), 21);
    assert!(resident("VmRSS") < before + 128, "it grew from {before} MiB");
}

#[test]
fn no_workers_instances_make_anothers_fail() {
    let memories = "(core module $mm (memory 1)) (core instance (instantiate $mm)) (core instance (instantiate $mm)) (core instance (instantiate $mm))";
    let greedy = Handmade::new("greedy")
        .fields(memories)
        .perform("(loop $on (br_if $on (i64.gt_s (call $now) (i64.const 0))))")
        .bytes();
    let limits = Limits::new().time(Duration::from_millis(2_500));
    let verger = Verger::in_memory()
        .without_built_ins()
        .component("greedy.wasm", greedy)
        .component("honest.wasm", Handmade::new("honest").bytes())
        .component("puppet.wasm", common::PUPPET)
        .grant("greedy", Grant::new().limits(limits))
        .compile_cache(CompileCache::Off)
        .open()
        .unwrap();
    let greedy: Vec<_> = (0..40)
        .map(|_| {
            let verger = verger.clone();
            std::thread::spawn(move || verger.perform_now("greedy", json!({})))
        })
        .collect();
    std::thread::sleep(Duration::from_millis(1_000));
    let begun = Instant::now();
    for worker in ["honest", "puppet"] {
        verger.perform_now(worker, json!({})).unwrap();
    }
    assert!(begun.elapsed() < Duration::from_secs(5));
    for ended in greedy {
        match ended.join().unwrap() {
            Err(PerformError::Failed { source, .. }) => assert_eq!(source.code, "deadline"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn no_time_a_worker_or_an_app_gives_is_beyond_what_can_be_written() {
    for kind in BOTH {
        let test = TestVerger::with(|builder| {
            let longest = Duration::MAX;
            let builder = kind.add(builder, limited(Limits::new().time(longest)));
            builder
                .backoff(verger::Backoff { base: longest, max: longest })
                .lease(longest)
                .keep_audit(longest)
                .retention(
                    verger::Retention::new()
                        .completed(longest)
                        .cancelled(longest)
                        .discarded(longest)
                        .fires(longest),
                )
        });
        test.sql(TABLES);
        let snoozed = run(&test, job(json!([["snooze", u32::MAX]])));
        let due = test.now() + Duration::from_secs(u32::MAX.into());
        assert_eq!((snoozed.state, snoozed.due_at), (JobState::Scheduled, due));
        let failed = run(&test, job(json!([["failed", "x"]])));
        assert_eq!((failed.state, failed.due_at), (JobState::Retryable, Timestamp::LAST));
        let later =
            test.enqueue(job(json!([])).after(Duration::MAX).unique_for(Duration::MAX)).unwrap();
        assert_eq!(row(&test, later.id).due_at, Timestamp::LAST);
        let checked = run(&test, job(json!([["checkpoint"], ["done"]])));
        assert_eq!(checked.state, JobState::Completed, "{kind:?}: {:?}", checked.errors);
        let refused =
            test.enqueue(NewJob::new("puppet", json!({})).at(Timestamp::from_millis(i64::MAX)));
        assert!(refused.unwrap_err().to_string().contains("year 9999"));
        let schedule = |schedule: verger::Schedule| {
            schedule.worker("puppet").jitter(Duration::MAX).start_deadline(Duration::MAX)
        };
        let often = verger::Schedule::every("often", Duration::from_secs(60)).unwrap();
        test.add_schedule(&schedule(often)).unwrap();
        test.run_until(TestVerger::START + Duration::from_secs(200));
        assert!(verger::Schedule::every("never", Duration::MAX).is_err());
        assert!(
            test.jobs(&verger::JobFilter::default(), 100)
                .unwrap()
                .iter()
                .all(|job| job.due_at <= Timestamp::LAST)
        );
    }
}
