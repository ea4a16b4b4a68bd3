//! A checked document, read into what a builder takes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::capabilities::{self, Capabilities};
use super::node::{Entry, Node};
use super::units;
use super::walk::{Problems, join};
use crate::grant::Grant;
use crate::limits::Limits;
use crate::queue::{Backoff, Queue, Retention};
use crate::schedule::{Missed, Overlap, Schedule};
use crate::store::Durability;

/// What a `verger.toml` says. `None` where it says nothing.
#[derive(Debug, Clone, Default)]
pub(super) struct Settings {
    pub(super) file: Option<PathBuf>,
    pub(super) plugins: Vec<PathBuf>,
    pub(super) built_ins: Option<bool>,
    pub(super) durability: Option<Durability>,
    pub(super) threads: Option<usize>,
    pub(super) lease: Option<Duration>,
    pub(super) keep_audit: Option<Duration>,
    pub(super) schedule_set: Option<String>,
    #[cfg_attr(not(feature = "wasm"), allow(dead_code, reason = "nothing is compiled"))]
    pub(super) cache: Option<Cache>,
    #[cfg_attr(not(feature = "wasm"), allow(dead_code, reason = "nothing is compiled"))]
    pub(super) compile_limit: Option<Duration>,
    pub(super) retention: Retention,
    pub(super) capabilities: Capabilities,
    pub(super) backoff: Option<Backoff>,
    pub(super) backoffs: BTreeMap<String, Backoff>,
    pub(super) grants: BTreeMap<String, Grant>,
    pub(super) queues: Vec<Queue>,
    pub(super) schedules: Vec<Schedule>,
}

/// Sets one limit.
type Set<N> = fn(Limits, N) -> Limits;

/// Where compiled workers are kept.
#[derive(Debug, Clone)]
pub(super) enum Cache {
    User,
    Off,
    #[cfg_attr(not(feature = "wasm"), allow(dead_code, reason = "nothing is compiled"))]
    Folder(PathBuf),
}

/// Reads all of it, and tells what cannot be used although each key by itself is right.
pub(super) fn read(root: &Node, folder: &Path, problems: &mut Problems<'_>) -> Settings {
    let path = |text: &str| folder.join(text);
    let text = |key: &str| root.get(key).and_then(Node::text);
    let limits = limits(root.get("limits"), Limits::new());
    let named = |key: &str| root.get(key).map(Node::entries).unwrap_or_default();
    let mut settings = Settings {
        file: text("file").or_else(|| text("db")).map(path),
        plugins: root
            .get("plugins")
            .map(Node::texts)
            .unwrap_or_default()
            .into_iter()
            .map(path)
            .collect(),
        built_ins: root.get("built_ins").and_then(Node::flag),
        durability: text("durability").map(|word| match word {
            "full" => Durability::Full,
            _ => Durability::Normal,
        }),
        threads: root.get("threads").and_then(Node::integer).and_then(|n| usize::try_from(n).ok()),
        lease: duration(root, "lease"),
        keep_audit: duration(root, "keep_audit"),
        schedule_set: text("schedule_set").map(str::to_string),
        cache: text("compile_cache").map(|word| match word {
            "user" => Cache::User,
            "off" => Cache::Off,
            folder => Cache::Folder(path(folder)),
        }),
        compile_limit: duration(root, "compile_limit"),
        retention: retention(root.get("retention")),
        capabilities: capabilities::read(root, folder, problems),
        backoff: root.get("backoff").map(backoff),
        ..Settings::default()
    };
    if let (Some(_), Some(old)) = (root.get("file"), root.get("db")) {
        problems.add(&old.span, "db", "`file` names the database already: remove this line");
    }
    for entry in named("workers") {
        if let Some(node) = entry.node.get("backoff") {
            settings.backoffs.insert(entry.name.clone(), backoff(node));
        }
    }
    for entry in named("grants") {
        let grant = grant(entry, &limits, problems);
        settings.grants.insert(entry.name.clone(), grant);
    }
    for entry in named("queues") {
        settings.queues.extend(queue(entry, problems));
    }
    for entry in named("schedules") {
        settings.schedules.extend(schedule(entry, problems));
    }
    settings
}

pub(super) fn duration(node: &Node, key: &str) -> Option<Duration> {
    node.get(key).and_then(Node::text).and_then(units::duration)
}

/// Bytes: a number, or `16MiB`.
pub(super) fn size(node: &Node, key: &str) -> Option<u64> {
    let node = node.get(key)?;
    node.text().map_or_else(|| u64::try_from(node.integer()?).ok(), units::size)
}

fn backoff(node: &Node) -> Backoff {
    let defaults = Backoff::default();
    Backoff {
        base: duration(node, "base").unwrap_or(defaults.base),
        max: duration(node, "max").unwrap_or(defaults.max),
    }
}

fn retention(node: Option<&Node>) -> Retention {
    // `forever` is no length of time.
    let keep = |key: &str| node?.get(key)?.text().map(units::duration);
    let mut retention = Retention::new();
    if let Some(completed) = keep("completed") {
        retention = retention.completed(completed);
    }
    if let Some(cancelled) = keep("cancelled") {
        retention = retention.cancelled(cancelled);
    }
    if let Some(discarded) = keep("discarded") {
        retention = retention.discarded(discarded);
    }
    if let Some(fires) = keep("fires") {
        retention = retention.fires(fires);
    }
    if let Some(events) = keep("events") {
        retention = retention.events(events);
    }
    retention
}

fn queue(entry: &Entry, problems: &mut Problems<'_>) -> Option<Queue> {
    let count = |key: &str| {
        entry.node.get(key).and_then(Node::integer).and_then(|number| usize::try_from(number).ok())
    };
    let mut queue = Queue::new(&entry.name);
    if let Some(jobs) = count("concurrency") {
        queue = queue.concurrency(jobs);
    }
    if let Some(jobs) = count("global") {
        queue = queue.global(jobs);
    }
    match queue.check() {
        Ok(()) => Some(queue),
        Err(error) => {
            problems.add(&entry.name_span, &join("queues", &entry.name), error.reason);
            None
        }
    }
}

fn schedule(entry: &Entry, problems: &mut Problems<'_>) -> Option<Schedule> {
    let (node, name) = (&entry.node, join("schedules", &entry.name));
    let text = |key: &str| node.get(key).and_then(Node::text);
    let begun = match (node.get("cron"), node.get("every")) {
        (Some(_), Some(every)) => {
            problems.add(&every.span, &join(&name, "every"), "`cron` says when already: keep one");
            return None;
        }
        (None, None) => {
            let message = "it has neither `cron` nor `every`: say when it is due";
            problems.add(&entry.name_span, &name, message);
            return None;
        }
        (Some(cron), None) => (cron, "cron", Schedule::cron(&entry.name, cron.text()?)),
        (None, Some(every)) => {
            (every, "every", Schedule::every(&entry.name, units::duration(every.text()?)?))
        }
    };
    let mut schedule = match begun {
        (_, _, Ok(schedule)) => schedule,
        (at, key, Err(error)) => {
            problems.add(&at.span, &join(&name, key), reason(&error));
            return None;
        }
    };
    match text("worker") {
        Some(worker) => schedule = schedule.worker(worker),
        None => {
            problems.add(&entry.name_span, &name, "it names no worker: write worker = \"NAME\"");
            return None;
        }
    }
    if let Some(args) = node.get("args") {
        let args = match args.text() {
            Some(json) => crate::queue::parse_args(json).ok()?,
            None => args.to_json(),
        };
        schedule = schedule.args(args);
    }
    let all = node.get("all_organizations").and_then(Node::flag).unwrap_or(false);
    match (text("organization"), node.get("actor")) {
        (Some(_), _) if all => {
            let message = "`all_organizations` says otherwise: keep one";
            problems.add(&node.get("organization")?.span, &join(&name, "organization"), message);
        }
        (Some(organization), actor) => {
            schedule = schedule.for_organization(organization, actor.and_then(Node::text));
        }
        (None, Some(actor)) => {
            let message = "an actor acts in an organization: name that too";
            problems.add(&actor.span, &join(&name, "actor"), message);
        }
        (None, None) if all => schedule = schedule.for_all_organizations(),
        (None, None) => {}
    }
    if let Some(zone) = node.get("time_zone") {
        match schedule.clone().time_zone(zone.text()?) {
            Ok(zoned) => schedule = zoned,
            Err(error) => problems.add(&zone.span, &join(&name, "time_zone"), reason(&error)),
        }
    }
    if let Some(queue) = text("queue") {
        schedule = schedule.queue(queue);
    }
    let integer = |key: &str| node.get(key).and_then(Node::integer);
    if let Some(priority) = integer("priority").and_then(|number| u8::try_from(number).ok()) {
        schedule = schedule.priority(priority);
    }
    if let Some(attempts) = integer("max_attempts").and_then(|number| u32::try_from(number).ok()) {
        schedule = schedule.max_attempts(attempts);
    }
    if let Some(missed) = node.get("missed") {
        match missed.text()?.parse::<Missed>() {
            Ok(policy) => schedule = schedule.missed(policy),
            Err(error) => problems.add(&missed.span, &join(&name, "missed"), error),
        }
    }
    if text("overlap") == Some("allow") {
        schedule = schedule.overlap(Overlap::Allow);
    }
    if let Some(deadline) = duration(node, "start_deadline") {
        schedule = schedule.start_deadline(deadline);
    }
    if let Some(jitter) = duration(node, "jitter") {
        schedule = schedule.jitter(jitter);
    }
    if let Err(error) = schedule.check() {
        problems.add(&entry.name_span, &name, reason(&error));
    }
    Some(schedule)
}

/// What an error says, without the name of the schedule: the key says that.
fn reason(error: &crate::schedule::ScheduleError) -> String {
    let text = error.to_string();
    match text.strip_prefix("schedule `").and_then(|rest| rest.split_once("`: ")) {
        Some((_, reason)) => reason.to_string(),
        None => text,
    }
}

fn grant(entry: &Entry, defaults: &Limits, problems: &mut Problems<'_>) -> Grant {
    let (node, name) = (&entry.node, join("grants", &entry.name));
    let declared = node.get("as_declared").and_then(Node::flag).unwrap_or(false);
    let mut grant = if declared { Grant::as_declared() } else { Grant::new() };
    for verb in ["read", "insert", "update", "delete", "write"] {
        let Some(list) = node.get(verb) else { continue };
        if declared {
            let message = "`as_declared` gives all that is asked for: keep one";
            problems.add(&list.span, &join(&name, verb), message);
        }
        for part in list.texts() {
            match add(grant.clone(), verb, part) {
                Ok(more) => grant = more,
                Err(reason) => problems.add(&list.span, &join(&name, verb), reason),
            }
        }
    }
    let text = |key: &str| node.get(key).and_then(Node::text);
    if let Some(column) = text("tenant_column") {
        grant = grant.tenant_column(column);
    }
    for table in node.get("shared").map(Node::texts).unwrap_or_default() {
        grant = grant.shared(table);
    }
    for capability in node.get("capabilities").map(Node::texts).unwrap_or_default() {
        grant = grant.capability(capability);
    }
    for worker in node.get("enqueue").map(Node::texts).unwrap_or_default() {
        grant = grant.enqueue(worker);
    }
    if let Some(digest) = node.get("sha256") {
        let text = digest.text().unwrap_or_default();
        if text.len() != 64 || !text.chars().all(|digit| digit.is_ascii_hexdigit()) {
            let message = "it is no SHA-256: `verger plugin inspect` prints it";
            problems.add(&digest.span, &join(&name, "sha256"), message);
        }
        grant = grant.for_digest(text);
    }
    grant.limits(limits(node.get("limits"), defaults.clone()))
}

/// A verb on a table, or on some columns of it: `users:id,name`.
fn add(grant: Grant, verb: &str, part: &str) -> Result<Grant, String> {
    let (table, columns) = match part.split_once(':') {
        Some((table, columns)) => (table, Some(columns)),
        None => (part, None),
    };
    if table.trim().is_empty() {
        return Err(format!("{part:?} names no table"));
    }
    let Some(columns) = columns else {
        return Ok(match verb {
            "read" => grant.read(table),
            "insert" => grant.insert(table),
            "update" => grant.update(table),
            "delete" => grant.delete(table),
            _ => grant.write(table),
        });
    };
    let columns: Vec<&str> = columns.split(',').map(str::trim).collect();
    if columns.iter().any(|column| column.is_empty()) {
        return Err(format!("{part:?} is no table:column,column"));
    }
    match verb {
        "read" => Ok(grant.read_columns(table, columns)),
        "update" => Ok(grant.update_columns(table, columns)),
        _ => Err(format!("{part:?} names columns: only `read` and `update` take them")),
    }
}

fn limits(node: Option<&Node>, mut limits: Limits) -> Limits {
    let Some(node) = node else { return limits };
    let count = |key: &str| {
        let number = node.get(key)?.integer()?;
        u64::try_from(number).ok()
    };
    let size = |key: &str| size(node, key);
    let usize_of = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    if let Some(time) = duration(node, "time") {
        limits = limits.time(time);
    }
    if let Some(time) = duration(node, "write_lock") {
        limits = limits.write_lock(time);
    }
    let sizes: [(&str, Set<usize>); 8] = [
        ("memory", Limits::memory_bytes),
        ("sql_memory", Limits::sql_memory_bytes),
        ("chunk", Limits::chunk_bytes),
        ("event", Limits::event_bytes),
        ("call", Limits::call_bytes),
        ("job", Limits::job_bytes),
        ("state", Limits::state_bytes),
        ("log", Limits::log_bytes),
    ];
    for (key, set) in sizes {
        if let Some(bytes) = size(key) {
            limits = set(limits, usize_of(bytes));
        }
    }
    let sizes: [(&str, Set<u64>); 3] = [
        ("transaction", Limits::transaction_bytes),
        ("growth", Limits::growth_bytes),
        ("audit", Limits::audit_bytes),
    ];
    for (key, set) in sizes {
        if let Some(bytes) = size(key) {
            limits = set(limits, bytes);
        }
    }
    if let Some(number) = count("statements") {
        limits = limits.statements(number);
    }
    if let Some(number) = count("jobs") {
        limits = limits.jobs(number);
    }
    if let Some(number) = count("audit_rows") {
        limits = limits.audit_rows(number);
    }
    if let Some(number) = count("events") {
        limits = limits.events(usize_of(number));
    }
    if let Some(number) = count("log_lines") {
        limits = limits.log_lines(u32::try_from(number).unwrap_or(u32::MAX));
    }
    limits
}
