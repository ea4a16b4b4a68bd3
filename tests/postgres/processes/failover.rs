//! The primary dies and its synchronous standby takes over, while jobs run.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use postgres::{Client, NoTls};
use serde_json::json;
use verger::NewJob;

use super::{UNDONE, check, count, node, set_up, start};
use crate::cluster::Cluster;
use crate::until;

#[test]
fn nothing_acknowledged_is_lost_or_doubled_when_a_standby_takes_over() {
    let Some(primary) = Cluster::start(&[]) else { return };
    let primary = Arc::new(primary);
    let standby = primary.standby();
    let database = primary.database("");
    let hosts = format!("host={},{}", primary.socket(), standby.socket());
    let url =
        format!("{hosts} user=postgres dbname={} target_session_attrs=read-write", database.name);
    set_up(&database);
    let verger = node(&url).open().unwrap();
    let nodes: Vec<_> = (0..3).map(|node| start(&url, &format!("node-{node}"))).collect();
    for node in &nodes {
        assert!(node.hear("ready", Duration::from_secs(30)).is_some());
    }
    let (acknowledged, stopping) = (AtomicUsize::new(0), AtomicBool::new(false));
    let heard = || acknowledged.load(Ordering::SeqCst);
    let (told, refused, down) = std::thread::scope(|scope| {
        let enqueueing = scope.spawn(|| {
            let (mut told, mut refused) = (BTreeSet::new(), Vec::new());
            for n in 0.. {
                if stopping.load(Ordering::SeqCst) {
                    break;
                }
                match verger.enqueue(NewJob::new("effect", json!({"n": n}))) {
                    Ok(_) => {
                        told.insert(n);
                        acknowledged.fetch_add(1, Ordering::SeqCst);
                    }
                    Err(error) => refused.push(error.to_string()),
                }
                std::thread::sleep(Duration::from_millis(4));
            }
            (told, refused)
        });
        until("jobs run", || heard() >= 150);
        primary.kill();
        let begun = Instant::now();
        standby.promote();
        let before = heard();
        until("the app's calls work again", || heard() > before);
        let down = begun.elapsed();
        until("jobs run on the other server", || heard() >= before + 150);
        stopping.store(true, Ordering::SeqCst);
        let (told, refused) = enqueueing.join().unwrap();
        (told, refused, down)
    });
    let url = format!("host={} user=postgres dbname={}", standby.socket(), database.name);
    let mut client = Client::connect(&url, NoTls).unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while count(&mut client, UNDONE) > 0 {
        assert!(Instant::now() < until, "{} jobs are left", count(&mut client, UNDONE));
        std::thread::sleep(Duration::from_millis(20));
    }
    nodes.into_iter().for_each(|node| drop(node.kill()));
    while verger.tick(verger.now()).unwrap().rescued > 0 || count(&mut client, UNDONE) > 0 {
        std::thread::sleep(Duration::from_millis(20));
    }
    check(&verger, &mut client, &told);
    for error in &refused {
        assert!(!error.contains('\n') && error.contains("could not"), "{error}");
    }
    println!(
        "the app could write again {down:.1?} after the kill; {} enqueued, {} refused meanwhile ({:?}); {} effects, {} slots, {} attempts crashed",
        told.len(),
        refused.len(),
        refused.first(),
        count(&mut client, "SELECT count(*) FROM effects"),
        count(&mut client, "SELECT count(*) FROM verger.fires"),
        count(
            &mut client,
            "SELECT count(*) FROM verger.jobs, jsonb_array_elements(errors) AS error WHERE error ->> 'code' = 'crashed'"
        ),
    );
}
