//! What a worker's work in an empty world shows of it.

use verger::verger_worker::Verb;
use verger::{AttemptError, Manifest, Outcome, PerformError, Performance};

use super::super::asks::is_the_engines;
use super::finding::{Findings, Level};
use super::statements::missing_table;
use super::world::{Lived, Origin, World};
use crate::output::{brief, counted};

/// The most findings of one kind that are reported one by one.
pub(super) const EACH_MAX: usize = 20;

/// The longest part of a statement or a result that is quoted, in characters.
const EXCERPT_MAX: usize = 120;

/// Performs the worker and reports the results. `granted` when --grant says what it may do, and not
/// all it asks for.
pub(super) fn examine(
    world: &World<'_>,
    granted: bool,
    findings: &mut Findings,
) -> anyhow::Result<Lived> {
    let lived = world.live()?;
    made(&lived, world, findings);
    denied(&lived, granted, findings);
    let untried = statements(&lived, world, findings);
    let place = match (granted, world.sql) {
        (true, _) => "under this grant",
        (false, Some(_)) => "in the world of --sql",
        (false, None) => "in an empty world",
    };
    performed(&lived, untried, place, findings);
    if lived.performed.is_ok() {
        unused(&lived, world, findings);
        again(&lived, world, findings);
    }
    functions(&lived, world.manifest, findings);
    for reason in lived.observed.dropped_events.iter().take(EACH_MAX) {
        findings.must_fix("audit", format!("an audit event of it was dropped: {reason}"));
    }
    Ok(lived)
}

/// Where its tables came from.
fn made(lived: &Lived, world: &World<'_>, findings: &mut Findings) {
    for (table, origin) in &lived.tables {
        let learned = lived
            .columns
            .get(table)
            .map(|columns| columns.iter().map(String::as_str).collect::<Vec<_>>().join(", "));
        match (origin, learned) {
            (Origin::Given, _) => findings.ok("world", format!("`{table}` is as --sql makes it")),
            (Origin::Reference, None) => {
                findings.ok("world", format!("`{table}` is the reference table, without rows"))
            }
            (Origin::Reference, Some(columns)) => {
                findings.ok("world", format!("`{table}` is the reference table, and has the columns {columns} too, which it names"));
            }
            (Origin::Made, _) if world.sql.is_some() => {
                findings.advice("world", format!("it asks for `{table}`, which --sql does not make: is that the table's name?"));
            }
            (Origin::Made, Some(columns)) => {
                findings.ok(
                    "world",
                    format!(
                        "`{table}` has no rows, and the columns its statements name: {columns}"
                    ),
                );
            }
            (Origin::Made, None) => findings.ok(
                "world",
                format!(
                    "`{table}` has no rows and no known columns but `id`: --sql FILE can say them"
                ),
            ),
        }
    }
}

/// What it tried and was not allowed to.
fn denied(lived: &Lived, granted: bool, findings: &mut Findings) {
    for reason in lived.observed.denied.iter().take(EACH_MAX) {
        match granted {
            true => findings.advice("denied", format!("under this grant it is refused: {reason}")),
            false => findings.must_fix("denied", reason.as_str()),
        }
    }
}

/// Reports the statements SQLite cannot read. Returns whether some may only lack a column that
/// nobody said.
fn statements(lived: &Lived, world: &World<'_>, findings: &mut Findings) -> bool {
    let unknown = lived.unknown();
    let mut untried = false;
    for (sql, message) in lived.survey.broken.iter().take(EACH_MAX) {
        let text = sql.to_lowercase();
        let sql = excerpt(sql);
        if let Some(table) =
            missing_table(message).filter(|table| !lived.tables.contains_key(&table.to_lowercase()))
        {
            findings
                .must_fix("denied", format!("it uses `{table}`, which its manifest does not ask for: ask for it, or do without ({sql})"));
        } else if !message.contains("syntax error")
            && unknown.iter().any(|table| text.contains(table.as_str()))
        {
            untried = true;
            findings.advice(
                "sql",
                format!("a statement could not be tried, for want of the real tables: {message} ({sql}); say them with --sql FILE"),
            );
        } else {
            let whose = if world.sql.is_some() { ", in the tables of --sql" } else { "" };
            findings.must_fix(
                "sql",
                format!("SQLite refuses a statement of it{whose}: {message} ({sql})"),
            );
        }
    }
    untried
}

/// A text on one line, cut if it is long.
pub(super) fn excerpt(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(EXCERPT_MAX) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or(&line)),
        None => line,
    }
}

/// How its work ended. With stubs for functions and tables, the worker's own word that it failed
/// does not prove a fault.
fn performed(lived: &Lived, untried: bool, place: &str, findings: &mut Findings) {
    match &lived.performed {
        Ok(performance) => {
            let did = format!(
                "{} changed, {}",
                counted(performance.rows_changed, "row"),
                counted(performance.audited, "audit row")
            );
            let took = millis(performance.elapsed);
            match &performance.outcome {
                Outcome::Cancel(reason) => findings.advice(
                    "perform",
                    format!(
                        "it cancels its job: {reason}; where there is nothing to do, end it as done"
                    ),
                ),
                outcome => findings
                    .ok("perform", format!("it ends well in {took}: {}; {did}", in_words(outcome))),
            }
        }
        Err(PerformError::Failed { source, .. })
            if is_its_own(&source.code) && (untried || !lived.calls.is_empty()) =>
        {
            let why = if untried {
                "a statement could not be tried"
            } else {
                "a function it calls only answers null here"
            };
            findings
                .advice("perform", format!("it fails, perhaps because {why}: {}", source.message));
        }
        Err(error) => findings.must_fix("perform", format!("{place} it fails: {}", told(error))),
    }
}

/// Whether a failure is the worker's own, or an error of a call that it handed on, and not a trap
/// or a limit.
fn is_its_own(code: &str) -> bool {
    let others = [
        "trap",
        "memory",
        "deadline",
        "lock-held",
        "limit",
        "panic",
        "invalid-result",
        "plugin",
        "args",
        "denied",
        "store",
        "busy",
    ];
    !others.contains(&code)
}

fn in_words(outcome: &Outcome) -> String {
    match outcome {
        Outcome::DoneWith(result) => format!("done, {}", excerpt(&brief(result))),
        Outcome::Snooze(seconds) => format!("it asks to be called again in {seconds} s"),
        _ => "done".to_string(),
    }
}

/// What it asks for and was not seen to use.
fn unused(lived: &Lived, world: &World<'_>, findings: &mut Findings) {
    for ask in &world.manifest.tables {
        let table = ask.resolve(world.args).to_lowercase();
        let (used, unused): (Vec<Verb>, Vec<Verb>) = ask
            .verbs
            .iter()
            .partition(|verb| lived.survey.touched.contains(&(table.clone(), **verb)));
        match (used.is_empty(), unused.is_empty()) {
            (_, true) => findings.ok("tables", format!("it uses {} on `{table}`, as it asks", verbs(&used))),
            (true, false) => findings.advice(
                "tables",
                format!(
                    "it asks for {} on `{table}` and did not touch it: ask for less, or let it show its work with --args or --sql",
                    verbs(&unused)
                ),
            ),
            (false, false) => {
                let level = if lived.tables.get(&table) == Some(&Origin::Given) { Level::Advice } else { Level::Ok };
                let says = format!(
                    "it uses {} on `{table}`; {} was not seen: rows to work on (--sql FILE) may show it",
                    verbs(&used),
                    verbs(&unused)
                );
                findings.add(level, "tables", says);
            }
        }
    }
}

fn verbs(verbs: &[Verb]) -> String {
    verbs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// A second run right after the first, as happens after a crash that came too late.
fn again(lived: &Lived, world: &World<'_>, findings: &mut Findings) {
    match world.live_on(lived) {
        Ok(Performance { rows_changed: 0, .. }) => findings.ok("again", "a second run right after the first changes nothing"),
        Ok(Performance { rows_changed, .. }) => findings.advice(
            "again",
            format!(
                "a second run right after the first changes {} too: a job can be tried again, so let it find its work done",
                counted(rows_changed, "row")
            ),
        ),
        Err(error) => findings.must_fix("again", format!("a second run right after the first fails: {}", told(&error))),
    }
}

/// The functions of the app it asks for.
fn functions(lived: &Lived, manifest: &Manifest, findings: &mut Findings) {
    for name in manifest.capabilities.iter().filter(|name| !is_the_engines(name)) {
        let calls = lived.calls.iter().filter(|call| call.capability == **name).count();
        let called = match calls {
            0 => "it did not call it here".to_string(),
            calls => format!("here {} got null for an answer", counted(calls as u64, "call")),
        };
        findings.advice(
            "functions",
            format!("the app has to register the function `{name}` and grant it; {called}"),
        );
    }
}

fn told(error: &PerformError) -> String {
    match error {
        PerformError::Failed { source: AttemptError { code, message }, .. } => {
            format!("{message} [{code}]")
        }
        other => other.to_string(),
    }
}

/// A short time, for people.
pub(super) fn millis(elapsed: std::time::Duration) -> String {
    format!("{:.1} ms", elapsed.as_secs_f64() * 1_000.0)
}
