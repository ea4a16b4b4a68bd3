//! `verger plugin check`: does this `.wasm` load and behave, and what should a person fix?

mod confined;
mod database;
#[cfg(feature = "postgres")]
mod dialect;
mod finding;
mod manifest;
mod outcomes;
mod statements;
mod work;
mod world;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use serde_json::{Value as Json, json};
use verger::verger_worker::{self, ManifestError};
use verger::{
    CompileCache, Described, Grant, Manifest, Observation, ObservedLine, Outcome, PerformError,
    PluginError, Verger,
};

use super::TENANT_KEYS;
use super::asks::Granted;
use super::component::{Component, Import, load};
use crate::clock::Held;
use crate::escape::{shown, to_paste};
use crate::failure::WORK_FAILED;
use crate::input;
use crate::options::{Database, Options};
use crate::output::{count, print, print_json};
use finding::{Findings, Level};
use work::millis;
use world::{Lived, World};

/// How long one performance in an empty world may last.
const TIME: Duration = Duration::from_secs(10);

/// A worker that takes longer to compile keeps its app waiting at the first start.
const COMPILE_SLOW: Duration = Duration::from_secs(5);

/// A worker that takes longer is refused by an app that sets no longer `compile_limit`.
const COMPILE_TOO_SLOW: Duration = Duration::from_secs(60);

/// A worker that takes longer to describe itself does more than that.
const DESCRIBE_SLOW: Duration = Duration::from_millis(200);

/// The most lines of the worker's log that are printed for people.
const LINES_MAX: usize = 20;

#[derive(Args)]
pub(crate) struct Check {
    /// The component
    file: PathBuf,
    /// Its args, a JSON object; organization_id and actor_id are null where it does not say
    #[arg(long, value_name = "JSON", default_value = "{}", value_parser = input::args)]
    args: Json,
    /// SQL that makes the tables it works on, and rows if you like: `sqlite3 app.db .schema` prints
    /// an app's own
    #[arg(long, value_name = "FILE")]
    sql: Option<PathBuf>,
    /// Say which of its jobs that wait in this database it could not perform: their args are brought
    /// into its version, as an attempt would, and nothing is changed
    #[arg(long, value_name = "FILE")]
    db: Option<PathBuf>,
    /// Say too which of its statements PostgreSQL does not take, or orders otherwise: in the tables of
    /// --db postgres://…, or in those it met here, on a server that is started for that
    #[cfg(feature = "postgres")]
    #[arg(long, value_enum)]
    dialect: Option<Dialect>,
}

/// Whose SQL is checked beside SQLite's.
#[cfg(feature = "postgres")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Dialect {
    Sqlite,
    Postgres,
}

/// What a check came to.
struct Checked {
    component: Component,
    findings: Findings,
    loading: Loading,
    manifest: Option<Manifest>,
    lived: Option<Lived>,
}

/// What it took to load a component.
struct Loading {
    /// Compiling and linking it.
    compiled: Duration,
    /// Bytes of machine code and what belongs to it; `None` when it was not compiled.
    machine_code: Option<u64>,
    /// Whether its machine code was in the cache.
    was_cached: bool,
    /// How long it took to describe itself, and the bytes of memory it had then.
    described: Option<Described>,
}

impl Check {
    pub(crate) fn run(&self, options: &Options) -> Result<ExitCode> {
        let checked = self.check(options)?;
        match options.json {
            true => print_json(&checked.to_json(&self.file))?,
            false => print(checked.to_text(&self.file).lines()),
        }
        Ok(match checked.findings.count(Level::MustFix) {
            0 => ExitCode::SUCCESS,
            _ => ExitCode::from(WORK_FAILED),
        })
    }

    fn check(&self, options: &Options) -> Result<Checked> {
        let grants = options.grants()?;
        let sql = self.sql.as_ref().map(|file| {
            input::file(file).with_context(|| format!("cannot read {}", file.display()))
        });
        let sql = sql.transpose()?;
        // What is compiled here need not be compiled again by `verger run`, or by an app of this
        // user.
        let cache = CompileCache::default();
        let clock = Held::at(options.now());
        let begun = Instant::now();
        let builder = Verger::in_memory().clock(clock.clone()).compile_cache(cache.clone());
        let (loaded, observed) = Observation::of(|| load(&self.file, builder));
        let took = begun.elapsed();
        let loaded = loaded?;
        let component = Component::read(&self.file, &loaded)?;
        let loading = Loading {
            compiled: took
                .saturating_sub(observed.described.map(|it| it.elapsed).unwrap_or_default()),
            machine_code: observed.compiled.map(|it| it.bytes),
            was_cached: observed.compiled.is_some_and(|it| it.was_cached),
            described: observed.described,
        };
        let mut findings = Findings::default();
        surface(&component, &mut findings);
        let manifest = match loaded {
            Err(refusal) => {
                if !matches!(refusal, PluginError::UnknownImport { .. }) {
                    findings.must_fix("load", refusal.to_string());
                }
                return Ok(Checked { component, findings, loading, manifest: None, lived: None });
            }
            Ok(loaded) => {
                if let Some(file) = &self.db {
                    let waiting = options.books_to_read(&Database { db: Some(file.clone()) })?;
                    database::examine(&loaded, &waiting, &mut findings)?;
                }
                loaded.manifest
            }
        };
        loading.examine(&component, &mut findings);
        manifest::examine(&manifest, &self.file, &mut findings);
        manifest::unknown_fields(observed.manifest.as_deref().unwrap_or_default(), &mut findings);
        is_built_in(&manifest, &component, &mut findings)?;
        let granted = Granted::to(&manifest.name, &grants, options);
        if let Some(sha256) = granted
            .given()
            .and_then(|given| given.sha256())
            .filter(|sha256| *sha256 != component.sha256)
        {
            findings
                .must_fix("grant", format!("its grant is for another file, with SHA-256 {sha256}: look at this one, then grant it anew"));
        }
        let args = self.complete_args(&manifest)?;
        let world = World {
            file: &self.file,
            manifest: &manifest,
            args: &args,
            grant: granted.given().map_or_else(
                || Grant::as_declared().time_limit(TIME),
                |given| given.to_grant_for_any_file(),
            ),
            sql: sql.as_deref(),
            clock,
            cache,
        };
        let lived = work::examine(&world, granted.given().is_some(), &mut findings)?;
        #[cfg(feature = "postgres")]
        if self.dialect == Some(Dialect::Postgres) {
            let database = Database { db: self.db.clone() };
            dialect::examine(&lived, &manifest, database.address(), &mut findings)?;
        }
        if lived.performed.is_ok() {
            let column = granted.given().and_then(|given| given.tenant_column());
            confined::examine(&world, &lived, column, &mut findings)?;
            outcomes::examine(&world, &lived, &mut findings)?;
        }
        Ok(Checked { component, findings, loading, manifest: Some(manifest), lived: Some(lived) })
    }

    /// The args, with the scope of a job of the system if they name none.
    fn complete_args(&self, manifest: &Manifest) -> Result<verger_worker::Args> {
        let mut args = self.args.clone();
        if let Some(args) = args.as_object_mut().filter(|_| manifest.tenant_aware) {
            for key in TENANT_KEYS {
                args.entry(key).or_insert(Json::Null);
            }
        }
        match manifest.complete(&verger_worker::Args::from_json(args)?) {
            Err(ManifestError::MissingKeys { keys, .. }) => {
                let example: serde_json::Map<String, Json> =
                    keys.iter().map(|key| (key.clone(), json!("…"))).collect();
                let (keys, example) =
                    (shown(&keys.join("`, `")), to_paste(&Json::Object(example).to_string()));
                bail!(
                    "worker `{}` requires the args `{keys}`, which have no default: give them, as in --args {example}",
                    manifest.name
                )
            }
            completed => completed.map_err(|error| anyhow!(shown(&error.to_string()))),
        }
    }
}

fn surface(component: &Component, findings: &mut Findings) {
    let refused = component.refused();
    if !refused.is_empty() {
        let names = refused.join(", ");
        findings.must_fix(
            "imports",
            format!("Verger does not provide what it imports, {names}: build it for wasm32-unknown-unknown, or without"),
        );
        return;
    }
    let (wasi, ours): (Vec<&str>, Vec<&str>) = component
        .imports
        .iter()
        .map(Import::short_name)
        .partition(|name| name.starts_with("wasi:"));
    let (ours, wasi) = (ours.join(", "), wasi.join(", "));
    findings.ok(
        "imports",
        match (ours.is_empty(), wasi.is_empty()) {
            (true, true) => "it imports nothing".to_string(),
            (false, true) => format!("it imports verger:worker alone: {ours}"),
            (_, false) => format!(
                "it imports verger:worker: {ours}; and WASI, which gives it next to nothing: {wasi}"
            ),
        },
    );
}

impl Loading {
    fn examine(&self, component: &Component, findings: &mut Findings) {
        let code = self.machine_code.map_or(String::new(), |bytes| {
            format!(", to {} KiB of machine code", count(bytes.div_ceil(1_024)))
        });
        let how = if self.was_cached { "taken from the cache" } else { "compiled" };
        let says = format!(
            "{} bytes, {how} and linked in {}{code}",
            count(component.bytes as u64),
            millis(self.compiled)
        );
        let advice = match self.compiled {
            took if took > COMPILE_TOO_SLOW => Some(
                "on a machine like this an app refuses it at its first start: make it smaller, compile it ahead, or set a longer compile_limit there",
            ),
            took if took > COMPILE_SLOW => Some(
                "an app waits for that at its first start: make it smaller, or compile it ahead",
            ),
            _ => None,
        };
        match advice {
            Some(advice) => findings.advice("compile", format!("{says}: {advice}")),
            None => findings.ok("compile", says),
        }
        let Some(Described { elapsed, memory_bytes, .. }) = self.described else { return };
        let says = format!(
            "it described itself in {}, with {} KiB of memory",
            millis(elapsed),
            count(memory_bytes.div_ceil(1_024))
        );
        match elapsed > DESCRIBE_SLOW {
            true => findings.advice(
                "describe",
                format!("{says}: return a constant there, at each start of the app it has 2 s"),
            ),
            false => findings.ok("describe", says),
        }
    }
}

/// The lines it logged.
fn logged(lived: &Lived) -> Vec<Json> {
    let line = |line: &ObservedLine| json!({ "level": line.level, "message": line.text });
    lived.observed.lines.iter().map(line).collect()
}

/// Reports a name that one of the built-in workers has.
fn is_built_in(manifest: &Manifest, component: &Component, findings: &mut Findings) -> Result<()> {
    let built_in = Verger::in_memory().open()?;
    if built_in.workers().contains(&manifest.name)
        && built_in.digest(&manifest.name)?.as_deref() != Some(&component.sha256)
    {
        findings.advice(
            "name",
            "a built-in worker has its name, and an app that has the built-in workers refuses another: rename it".to_string(),
        );
    }
    Ok(())
}

impl Checked {
    fn to_json(&self, file: &Path) -> Json {
        let lived = self.lived.as_ref();
        let performance = lived.and_then(|lived| lived.performed.as_ref().ok());
        let error = match lived.map(|lived| &lived.performed) {
            Some(Err(PerformError::Failed { source, .. })) => {
                json!({"code": source.code, "message": source.message})
            }
            _ => Json::Null,
        };
        let outcome = match performance.map(|performance| &performance.outcome) {
            Some(Outcome::Snooze(_)) => Some("snooze"),
            Some(Outcome::Cancel(_)) => Some("cancel"),
            Some(_) => Some("done"),
            None => lived.map(|_| "failed"),
        };
        let in_ms = |elapsed: Duration| (elapsed.as_secs_f64() * 1e6).round() / 1e3;
        json!({
            "file": file,
            "bytes": self.component.bytes,
            "sha256": self.component.sha256,
            "worker": self.manifest.as_ref().map(|manifest| &manifest.name),
            "version": self.manifest.as_ref().map(|manifest| &manifest.version),
            "findings": self.findings.all(),
            "advice": self.findings.count(Level::Advice),
            "must_fix": self.findings.count(Level::MustFix),
            "compile_ms": in_ms(self.loading.compiled),
            "machine_code_bytes": self.loading.machine_code,
            "describe_ms": self.loading.described.map(|it| in_ms(it.elapsed)),
            "perform_ms": performance.map(|performance| in_ms(performance.elapsed)),
            "memory_bytes": lived.and_then(|lived| lived.observed.memory_bytes),
            "outcome": outcome,
            "result": performance.and_then(|performance| performance.result()),
            "error": error,
            "calls": lived.map(|lived| lived.calls.as_slice()).unwrap_or_default(),
            "log": lived.map(logged).unwrap_or_default(),
        })
    }

    fn to_text(&self, file: &Path) -> String {
        let mut text = match &self.manifest {
            Some(manifest) => {
                format!(
                    "{} {} ({})\n\n",
                    manifest.name,
                    shown(&manifest.version),
                    shown(&file.display().to_string())
                )
            }
            None => format!("{}\n\n", shown(&file.display().to_string())),
        };
        text.push_str(&self.findings.to_text());
        let lines =
            self.lived.as_ref().map(|lived| lived.observed.lines.as_slice()).unwrap_or_default();
        if !lines.is_empty() {
            text.push_str("\nIt logged\n");
            lines.iter().take(LINES_MAX).for_each(|line| {
                text.push_str(&format!("  {:5}  {}\n", line.level, shown(&line.text)))
            });
        }
        if lines.len() > LINES_MAX {
            text.push_str(&format!(
                "  and {} more lines\n",
                count((lines.len() - LINES_MAX) as u64)
            ));
        }
        text
    }
}
