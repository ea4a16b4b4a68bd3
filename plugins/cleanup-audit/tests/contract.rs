//! The contract of `cleanup-audit`, natively. `tests/retention.rs` shows that the log still
//! verifies.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::cell::RefCell;
use std::rc::Rc;

use cleanup_audit::{ACTION, CAPABILITY, CleanupAudit};
use serde_json::Value as Json;
use verger_worker::prelude::*;
use verger_worker::testing::MemoryHost;

const NOW: i64 = 1_750_000_000_000;

/// A host whose log has so many rows that are old enough, and what it was asked.
fn host(rows: u64) -> (MemoryHost, Rc<RefCell<Vec<Json>>>) {
    let asked: Rc<RefCell<Vec<Json>>> = Rc::default();
    let heard = Rc::clone(&asked);
    let rows = RefCell::new(rows);
    let host = MemoryHost::new("").capability(CAPABILITY, move |request| {
        heard.borrow_mut().push(request.clone());
        let batch = (*rows.borrow()).min(request["limit"].as_u64().unwrap());
        *rows.borrow_mut() -= batch;
        Ok(json!({ "deleted": batch }))
    });
    host.set_now(NOW);
    (host, asked)
}

#[test]
fn batches_of_ten_thousand_go_until_nothing_is_left() {
    for (rows, batches) in
        [(0, vec![10_000]), (3, vec![10_000]), (10_000, vec![10_000; 2]), (25_000, vec![10_000; 3])]
    {
        let (host, asked) = host(rows);
        let outcome = host.perform(&CleanupAudit, json!({"retention_days": 30})).unwrap();
        assert_eq!(outcome, Outcome::DoneWith(json!({ "deleted": rows })));
        let asked = asked.borrow();
        assert_eq!(
            asked.iter().map(|request| request["limit"].as_u64().unwrap()).collect::<Vec<_>>(),
            batches
        );
        assert!(asked.iter().all(|request| request["before"] == NOW - 30 * 86_400_000));
        let told: u64 = host
            .audited()
            .iter()
            .map(|event| {
                assert_eq!(event.action, ACTION);
                let metadata: Json =
                    serde_json::from_str(event.metadata.as_deref().unwrap()).unwrap();
                metadata["deleted"].as_u64().unwrap()
            })
            .sum();
        assert_eq!(told, rows);
    }
}

#[test]
fn null_keeps_for_ever_and_less_than_a_day_is_an_error() {
    let (host, asked) = host(5);
    assert_eq!(
        host.perform(&CleanupAudit, json!({})).unwrap(),
        Outcome::DoneWith(json!({"deleted": 0}))
    );
    assert_eq!(
        host.perform(&CleanupAudit, json!({"retention_days": null})).unwrap(),
        Outcome::DoneWith(json!({"deleted": 0}))
    );
    for bad in [json!(0), json!(-1), json!(0.5), json!("30"), json!(true)] {
        let error =
            host.perform(&CleanupAudit, json!({"retention_days": bad})).unwrap_err().to_string();
        assert!(
            error.contains("`retention_days`") && error.contains("a whole number from 1"),
            "{error}"
        );
    }
    assert!(asked.borrow().is_empty());
}

#[test]
fn the_manifest_asks_for_what_it_uses_and_no_more() {
    let manifest = CleanupAudit.manifest();
    manifest.check().unwrap();
    assert!(!manifest.tenant_aware && manifest.tables.is_empty());
    assert_eq!(manifest.capabilities, [CAPABILITY]);
    assert!(manifest.schedule.is_some());
    assert!(manifest.args.values().all(|arg| !arg.description.is_empty()));
}

#[test]
fn a_failure_of_the_engine_fails_the_attempt_and_nothing_is_audited() {
    let host = MemoryHost::new("").capability(CAPABILITY, |_| Err("the log is damaged".into()));
    host.set_now(NOW);
    let error = host.perform(&CleanupAudit, json!({"retention_days": 30})).unwrap_err();
    assert!(error.to_string().contains("the log is damaged"), "{error}");
    assert!(host.audited().is_empty());
}
