//! Numbers about what was done, counted since Verger was opened. They can be read at any time,
//! without an exporter.
//!
//! Counting an attempt takes one lock that nobody holds for longer than another count. With the
//! feature `metrics` the same numbers go to the recorder that the app installed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use serde::Serialize;

use crate::mutex::lock;

/// The upper bounds of a histogram's buckets, in microseconds; one more holds what is longer.
const BOUNDS_US: [u64; 16] = [
    100,
    500,
    1_000,
    5_000,
    10_000,
    50_000,
    100_000,
    500_000,
    1_000_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    3_600_000_000,
    86_400_000_000,
];

/// How long something took, and how often.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Histogram {
    /// How often.
    pub count: u64,
    /// The sum, in microseconds.
    pub sum_us: u64,
    /// The longest, in microseconds.
    pub max_us: u64,
    /// How many took at most 0.1, 0.5, 1, 5, 10, 50, 100 and 500 ms, 1, 5, 10 and 30 s, 1 and 5
    /// minutes, an hour and a day. Each bucket counts those above the bound before it. The last
    /// counts those longer than a day.
    pub buckets: [u64; 17],
}

impl Histogram {
    fn add(&mut self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.count += 1;
        self.sum_us = self.sum_us.saturating_add(us);
        self.max_us = self.max_us.max(us);
        let place = BOUNDS_US.partition_point(|bound| *bound < us);
        if let Some(bucket) = self.buckets.get_mut(place) {
            *bucket += 1;
        }
    }

    /// The time that this share of all did not exceed, as far as the buckets tell: the bound of the
    /// bucket it falls into, or the longest of all. Zero when nothing was counted.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Duration {
        let rank = (share.clamp(0.0, 1.0) * self.count as f64).ceil() as u64;
        let mut seen = 0;
        for (place, bucket) in self.buckets.iter().enumerate() {
            seen += bucket;
            if *bucket > 0 && seen >= rank {
                let bound = BOUNDS_US.get(place).copied().unwrap_or(u64::MAX);
                return Duration::from_micros(bound.min(self.max_us));
            }
        }
        Duration::ZERO
    }

    /// The mean. Zero when nothing was counted.
    #[must_use]
    pub fn mean(&self) -> Duration {
        Duration::from_micros(self.sum_us.checked_div(self.count).unwrap_or(0))
    }
}

/// How an attempt ended, as it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AttemptEnd {
    Completed,
    Snoozed,
    Cancelled,
    Retried,
    Discarded,
    Released,
    Lost,
}

/// What the jobs of one worker did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct WorkerMetrics {
    /// Attempts begun.
    pub started: u64,
    /// Jobs completed.
    pub completed: u64,
    /// Attempts that put their job off.
    pub snoozed: u64,
    /// Jobs cancelled while they were performed.
    pub cancelled: u64,
    /// Attempts that failed and are made again.
    pub retried: u64,
    /// Jobs that failed for good.
    pub discarded: u64,
    /// Attempts that were given back unused: the loop stopped, or the worker was not there or was
    /// too old for the args.
    pub released: u64,
    /// Attempts whose claim was stale, or whose end could not be recorded.
    pub lost: u64,
    /// Rows of the app's tables changed, in what was committed.
    pub rows_changed: u64,
    /// Audit rows written, in what was committed.
    pub audited: u64,
    /// How long attempts took.
    pub run: Histogram,
    /// How long jobs had been due when they were claimed.
    pub wait: Histogram,
}

/// Numbers about what this process did since Verger was opened, and what waits in the file now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Metrics {
    /// What was done, by worker.
    pub workers: BTreeMap<String, WorkerMetrics>,
    /// How long workers held the write lock.
    pub lock_held: Histogram,
    /// How long plugins took to load: read, checked, and compiled or taken from the cache.
    pub load: Histogram,
    /// Jobs that wait, by queue.
    pub waiting: BTreeMap<String, u64>,
    /// Jobs that are being performed, by any process, by queue.
    pub executing: BTreeMap<String, u64>,
}

/// Counts.
#[derive(Default)]
pub(crate) struct Counters(Mutex<Metrics>);

impl Counters {
    fn counts(&self) -> MutexGuard<'_, Metrics> {
        lock(&self.0)
    }

    fn worker(&self, name: &str, count: impl FnOnce(&mut WorkerMetrics)) {
        let mut counts = self.counts();
        match counts.workers.get_mut(name) {
            Some(worker) => count(worker),
            None => count(counts.workers.entry(name.to_string()).or_default()),
        }
    }

    pub(crate) fn started(&self, worker: &str, wait: Duration) {
        self.worker(worker, |counts| {
            counts.started += 1;
            counts.wait.add(wait);
        });
        #[cfg(feature = "metrics")]
        {
            let worker = worker.to_string();
            ::metrics::counter!("verger_started_total", "worker" => worker.clone()).increment(1);
            ::metrics::histogram!("verger_wait_seconds", "worker" => worker)
                .record(wait.as_secs_f64());
        }
    }

    pub(crate) fn ended(
        &self,
        worker: &str,
        end: AttemptEnd,
        took: Duration,
        (rows_changed, audited): (u64, u64),
    ) {
        self.worker(worker, |counts| {
            let count = match end {
                AttemptEnd::Completed => &mut counts.completed,
                AttemptEnd::Snoozed => &mut counts.snoozed,
                AttemptEnd::Cancelled => &mut counts.cancelled,
                AttemptEnd::Retried => &mut counts.retried,
                AttemptEnd::Discarded => &mut counts.discarded,
                AttemptEnd::Released => &mut counts.released,
                AttemptEnd::Lost => &mut counts.lost,
            };
            *count += 1;
            counts.rows_changed += rows_changed;
            counts.audited += audited;
            counts.run.add(took);
        });
        #[cfg(feature = "metrics")]
        {
            let (worker, outcome) = (worker.to_string(), end.word());
            ::metrics::counter!("verger_ended_total", "worker" => worker.clone(), "outcome" => outcome)
                .increment(1);
            ::metrics::counter!("verger_rows_changed_total", "worker" => worker.clone())
                .increment(rows_changed);
            ::metrics::histogram!("verger_run_seconds", "worker" => worker)
                .record(took.as_secs_f64());
        }
    }

    pub(crate) fn lock_held(&self, time: Duration) {
        self.counts().lock_held.add(time);
        #[cfg(feature = "metrics")]
        ::metrics::histogram!("verger_lock_held_seconds").record(time.as_secs_f64());
    }

    #[cfg_attr(not(feature = "wasm"), allow(dead_code, reason = "there are no plugins"))]
    pub(crate) fn loaded(&self, time: Duration) {
        self.counts().load.add(time);
        #[cfg(feature = "metrics")]
        ::metrics::histogram!("verger_load_seconds").record(time.as_secs_f64());
    }

    pub(crate) fn read(&self) -> Metrics {
        self.counts().clone()
    }
}

impl AttemptEnd {
    #[cfg_attr(not(feature = "metrics"), allow(dead_code, reason = "nobody is told"))]
    const fn word(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Snoozed => "snoozed",
            Self::Cancelled => "cancelled",
            Self::Retried => "retried",
            Self::Discarded => "discarded",
            Self::Released => "released",
            Self::Lost => "lost",
        }
    }
}

/// A name, its meaning, and how to read it from a worker's numbers.
type Column<T> = (&'static str, &'static str, fn(&WorkerMetrics) -> T);

impl Metrics {
    /// The numbers in Prometheus' text format, version 0.0.4: counters and histograms, times in
    /// seconds.
    #[must_use]
    pub fn to_prometheus(&self) -> String {
        let mut text = String::new();
        let counters: [Column<u64>; 3] = [
            ("verger_started_total", "Attempts begun.", |worker| worker.started),
            ("verger_rows_changed_total", "Rows of the app's tables changed.", |worker| {
                worker.rows_changed
            }),
            ("verger_audited_total", "Audit rows written.", |worker| worker.audited),
        ];
        for (name, help, of) in counters {
            head(&mut text, name, help, "counter");
            for (worker, counts) in &self.workers {
                line(&mut text, name, &[("worker", worker)], of(counts));
            }
        }
        let name = "verger_ended_total";
        head(&mut text, name, "Attempts, by how they ended.", "counter");
        for (worker, counts) in &self.workers {
            for (outcome, count) in [
                ("completed", counts.completed),
                ("snoozed", counts.snoozed),
                ("cancelled", counts.cancelled),
                ("retried", counts.retried),
                ("discarded", counts.discarded),
                ("released", counts.released),
                ("lost", counts.lost),
            ] {
                line(&mut text, name, &[("worker", worker), ("outcome", outcome)], count);
            }
        }
        for (name, help, by_queue) in [
            ("verger_waiting", "Jobs that wait.", &self.waiting),
            ("verger_executing", "Jobs that are being performed.", &self.executing),
        ] {
            head(&mut text, name, help, "gauge");
            for (queue, count) in by_queue {
                line(&mut text, name, &[("queue", queue)], *count);
            }
        }
        let histograms: [Column<Histogram>; 2] = [
            ("verger_run_seconds", "How long attempts took.", |worker| worker.run),
            (
                "verger_wait_seconds",
                "How long jobs had been due when they were claimed.",
                |worker| worker.wait,
            ),
        ];
        for (name, help, of) in histograms {
            head(&mut text, name, help, "histogram");
            for (worker, counts) in &self.workers {
                histogram(&mut text, name, &[("worker", worker)], &of(counts));
            }
        }
        for (name, help, of) in [
            ("verger_lock_held_seconds", "How long workers held the write lock.", &self.lock_held),
            ("verger_load_seconds", "How long plugins took to load.", &self.load),
        ] {
            head(&mut text, name, help, "histogram");
            histogram(&mut text, name, &[], of);
        }
        text
    }
}

// Writing to a String does not fail.

fn head(text: &mut String, name: &str, help: &str, kind: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

fn line(text: &mut String, name: &str, labels: &[(&str, &str)], value: u64) {
    let _ = writeln!(text, "{name}{} {value}", labelled(labels, None));
}

fn labelled(labels: &[(&str, &str)], bound: Option<&str>) -> String {
    // A worker's name is a stranger's text.
    let escaped =
        |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let labels = labels.iter().copied().chain(bound.map(|bound| ("le", bound)));
    let labels: Vec<_> =
        labels.map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
    match labels.is_empty() {
        true => String::new(),
        false => format!("{{{}}}", labels.join(",")),
    }
}

fn histogram(text: &mut String, name: &str, labels: &[(&str, &str)], of: &Histogram) {
    let mut seen = 0;
    for (place, bucket) in of.buckets.iter().enumerate() {
        seen += bucket;
        let bound = BOUNDS_US.get(place).map(|bound| (*bound as f64 / 1e6).to_string());
        let bound = bound.unwrap_or_else(|| "+Inf".to_string());
        let _ = writeln!(text, "{name}_bucket{} {seen}", labelled(labels, Some(&bound)));
    }
    let labels = labelled(labels, None);
    let _ = writeln!(text, "{name}_sum{labels} {}", of.sum_us as f64 / 1e6);
    let _ = writeln!(text, "{name}_count{labels} {}", of.count);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_falls_into_the_bucket_it_does_not_exceed() {
        let mut histogram = Histogram::default();
        assert_eq!((histogram.mean(), histogram.quantile(0.5)), (Duration::ZERO, Duration::ZERO));
        for ms in [0, 1, 1, 40, 200_000, 100_000_000_000] {
            histogram.add(Duration::from_millis(ms));
        }
        assert_eq!((histogram.buckets[0], histogram.buckets[2], histogram.buckets[16]), (1, 2, 1));
        assert_eq!(histogram.buckets.iter().sum::<u64>(), histogram.count);
        assert_eq!(histogram.quantile(0.5), Duration::from_millis(1));
        assert_eq!(histogram.quantile(0.6), Duration::from_millis(50));
        assert_eq!(histogram.quantile(1.0), Duration::from_millis(100_000_000_000));
    }

    #[test]
    fn prometheus_reads_the_text_whatever_a_worker_is_called() {
        let counters = Counters::default();
        counters.started("a\"b\\c\nd", Duration::from_secs(2));
        counters.ended("a\"b\\c\nd", AttemptEnd::Completed, Duration::from_micros(70), (3, 1));
        counters.lock_held(Duration::from_millis(3));
        let text = counters.read().to_prometheus();
        for line in [
            r#"verger_started_total{worker="a\"b\\c\nd"} 1"#,
            r#"verger_ended_total{worker="a\"b\\c\nd",outcome="completed"} 1"#,
            r#"verger_rows_changed_total{worker="a\"b\\c\nd"} 3"#,
            r#"verger_run_seconds_bucket{worker="a\"b\\c\nd",le="0.0001"} 1"#,
            r#"verger_run_seconds_sum{worker="a\"b\\c\nd"} 0.00007"#,
            r#"verger_wait_seconds_bucket{worker="a\"b\\c\nd",le="1"} 0"#,
            r#"verger_wait_seconds_bucket{worker="a\"b\\c\nd",le="5"} 1"#,
            r#"verger_wait_seconds_bucket{worker="a\"b\\c\nd",le="+Inf"} 1"#,
            "verger_lock_held_seconds_count 1",
            "# TYPE verger_lock_held_seconds histogram",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\nin\n{text}");
        }
    }
}
