//! A checked document, read into what a builder takes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::capabilities::{self, Capabilities};
use super::keys::{Key, Kind, LIMITS};
use super::node::{Entry, Node};
use super::units;
use super::walk::{Problems, join};
use crate::grant::Grant;
use crate::limits::Limits;
use crate::queue::{Backoff, Queue, Retention};
use crate::schedule::{Missed, Overlap, Schedule};
use crate::store::Durability;
use crate::written_grant::WrittenGrant;

/// What a `verger.toml` says. A field is `None` where the file says nothing.
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

/// Where compiled workers are kept.
#[derive(Debug, Clone)]
pub(super) enum Cache {
    User,
    Off,
    #[cfg_attr(not(feature = "wasm"), allow(dead_code, reason = "nothing is compiled"))]
    Folder(PathBuf),
}

/// Reads all of it, and reports what cannot be used although each key by itself is right.
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
    // `forever` is no duration, and becomes `None`.
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
    let integer = |key: &str| node.get(key).and_then(Node::integer);
    if let Some(version) = integer("args_version").and_then(|number| u32::try_from(number).ok()) {
        schedule = schedule.args_version(version);
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

/// What an error says, without the name of the schedule, which the key gives already.
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
    let mut written = WrittenGrant::default();
    for key in ["read", "insert", "update", "delete", "write", "shared"] {
        let Some(list) = node.get(key) else { continue };
        if declared && key != "shared" {
            let message = "`as_declared` gives all that is asked for: keep one";
            problems.add(&list.span, &join(&name, key), message);
        }
        for part in list.texts() {
            if let Err(reason) = written.allow(key, part) {
                problems.add(&list.span, &join(&name, key), reason);
            }
        }
    }
    if let Some(column) = node.get("tenant_column").and_then(Node::text) {
        written.confine(column);
    }
    let texts = |key: &str| node.get(key).map(Node::texts).unwrap_or_default();
    written.give(&texts("capabilities"), &texts("enqueue"));
    if let Some(digest) = node.get("sha256")
        && let Some(Err(reason)) = digest.text().map(|text| written.bind(text))
    {
        problems.add(&digest.span, &join(&name, "sha256"), reason);
    }
    written.to_grant_with(declared, limits(node.get("limits"), defaults.clone()))
}

/// The limits of a table, on these defaults. A key is the limit's name without its unit.
fn limits(node: Option<&Node>, limits: Limits) -> Limits {
    let Some(node) = node else { return limits };
    LIMITS.iter().fold(limits, |limits, key| {
        let value = match key.kind {
            Kind::Duration => duration(node, key.name)
                .map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
            Kind::Size => size(node, key.name),
            _ => node
                .get(key.name)
                .and_then(Node::integer)
                .and_then(|number| u64::try_from(number).ok()),
        };
        let set = value.and_then(|value| limits.clone().with(&name_of(key), value));
        set.unwrap_or(limits)
    })
}

/// The name of a limit in a grant written as JSON, where numbers have no units.
fn name_of(key: &Key) -> String {
    match key.kind {
        Kind::Duration => format!("{}_ms", key.name),
        Kind::Size => format!("{}_bytes", key.name),
        _ => key.name.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_has_a_key_and_every_key_a_limit() {
        let mut keys: Vec<String> = LIMITS.iter().map(name_of).collect();
        let limits = Limits::new().write_lock(Duration::from_secs(1));
        let mut names: Vec<&str> = limits.all().map(|(name, _)| name).collect();
        keys.sort_unstable();
        names.sort_unstable();
        assert_eq!(keys, names);
    }
}
