//! What the app lets one worker touch. A pure value: policy is decided here, enforced elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use verger_worker::{Args, Manifest, Verb};

use crate::limits::Limits;

/// What a worker may touch. Nothing, until the app says so.
///
/// A worker gets what its manifest asks for *and* its grant allows, never more.
///
/// ```
/// use verger::Grant;
/// let grant = Grant::new().read("orders").write("order_totals").tenant_column("organization_id").capability("mailer");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grant {
    tables: BTreeMap<String, TableGrant>,
    capabilities: BTreeSet<String>,
    enqueues: BTreeSet<String>,
    tenant_column: Option<String>,
    shared: BTreeSet<String>,
    as_declared: bool,
    digest: Option<String>,
    limits: Limits,
}

/// What a worker may do with one table: for each verb, all columns or these.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct TableGrant {
    verbs: BTreeMap<Verb, Option<BTreeSet<String>>>,
}

impl Grant {
    /// A grant of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A grant of all that the worker's manifest asks for, tables named by args included. For
    /// workers the app ships itself; the built-in workers have it.
    ///
    /// ```
    /// let grant = verger::Grant::as_declared();
    /// ```
    #[must_use]
    pub fn as_declared() -> Self {
        Self { as_declared: true, ..Self::default() }
    }

    /// May read this table or view.
    #[must_use]
    pub fn read(self, table: impl Into<String>) -> Self {
        self.verb(table, Verb::Read)
    }

    /// May read, insert, update and delete rows of this table.
    #[must_use]
    pub fn write(self, table: impl Into<String>) -> Self {
        let table = table.into();
        self.read(table.clone()).insert(table.clone()).update(table.clone()).delete(table)
    }

    /// May insert rows into this table.
    #[must_use]
    pub fn insert(self, table: impl Into<String>) -> Self {
        self.verb(table, Verb::Insert)
    }

    /// May update rows of this table.
    #[must_use]
    pub fn update(self, table: impl Into<String>) -> Self {
        self.verb(table, Verb::Update)
    }

    /// May delete rows of this table.
    #[must_use]
    pub fn delete(self, table: impl Into<String>) -> Self {
        self.verb(table, Verb::Delete)
    }

    /// May read these columns of this table and no others.
    ///
    /// ```
    /// use verger::Grant;
    ///
    /// let grant = Grant::new().read_columns("users", ["id", "locale"]);
    /// ```
    #[must_use]
    pub fn read_columns<C: Into<String>>(
        self,
        table: impl Into<String>,
        columns: impl IntoIterator<Item = C>,
    ) -> Self {
        self.columns(table, Verb::Read, columns)
    }

    /// May update these columns of this table and no others.
    #[must_use]
    pub fn update_columns<C: Into<String>>(
        self,
        table: impl Into<String>,
        columns: impl IntoIterator<Item = C>,
    ) -> Self {
        self.columns(table, Verb::Update, columns)
    }

    /// The column that holds the tenant in every granted table that has it.
    ///
    /// With it a job that has an `organization_id` sees, changes and counts only that tenant's
    /// rows, whatever SQL its worker sends: a row it inserts gets the tenant, and a table without
    /// the column is refused unless it is [`shared`](Self::shared). A job whose `organization_id`
    /// is null is not confined. A confined table takes no UPSERT and no REPLACE, and rows of a
    /// confined view are read and inserted only.
    ///
    /// The tenant is compared as text, by the rules of its column: an `organization_id` of 7 is the
    /// tenant of the rows with 7 in a column of numbers and with `'7'` in one of text. A row with
    /// NULL in it, or with bytes, is nobody's, and so is a number in a column without a type.
    ///
    /// It holds whatever the worker says of itself: one whose manifest is not `tenant_aware` is
    /// confined all the same. So every job of such a worker must carry the keys `organization_id`
    /// and `actor_id`, null where it is for all tenants, and is refused without them.
    ///
    /// This contains code. It does not authorize a user: scopes stay audit-only.
    ///
    /// ```
    /// use verger::Grant;
    ///
    /// // The rates are the same for all.
    /// let grant = Grant::new().write("orders").read("rates").tenant_column("organization_id").shared("rates");
    /// ```
    #[must_use]
    pub fn tenant_column(mut self, column: impl Into<String>) -> Self {
        self.tenant_column = Some(column.into());
        self
    }

    /// This table belongs to no tenant: confined jobs, too, may use it as far as it is granted.
    #[must_use]
    pub fn shared(mut self, table: impl Into<String>) -> Self {
        self.shared.insert(table.into().to_ascii_lowercase());
        self
    }

    /// May call this function of the app.
    #[must_use]
    pub fn capability(mut self, name: impl Into<String>) -> Self {
        self.capabilities.insert(name.into());
        self
    }

    /// May enqueue jobs for this worker. For itself it always may.
    #[must_use]
    pub fn enqueue(mut self, worker: impl Into<String>) -> Self {
        self.enqueues.insert(worker.into());
        self
    }

    /// Only for the component with this SHA-256, in hexadecimal digits, as `verger plugin inspect`
    /// prints it. Another file of the same worker, a new version too, is refused until someone has
    /// looked at it.
    #[must_use]
    pub fn for_digest(mut self, sha256: impl Into<String>) -> Self {
        self.digest = Some(sha256.into().trim().to_lowercase());
        self
    }

    /// Whether a job of a tenant is confined to it.
    pub(crate) fn confines(&self) -> bool {
        self.tenant_column.is_some()
    }

    pub(crate) fn is_as_declared(&self) -> bool {
        self.as_declared
    }

    pub(crate) fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// What a worker asks for and this does not give it. A table that an arg names is the one it
    /// names by default.
    pub(crate) fn withholds(&self, manifest: &Manifest) -> Option<Withheld> {
        let effective = Effective::of(manifest, self, &Args::default());
        let capabilities: Vec<String> = manifest
            .capabilities
            .iter()
            .filter(|name| !self.as_declared && !self.capabilities.contains(*name))
            .cloned()
            .collect();
        let enqueues: Vec<String> = manifest
            .enqueues
            .iter()
            .filter(|name| {
                let is_granted = self.as_declared || self.enqueues.contains(*name);
                !is_granted && **name != manifest.name
            })
            .cloned()
            .collect();
        let tables: Vec<(String, Vec<Verb>)> = effective
            .withheld
            .into_iter()
            .map(|(table, verbs)| (table, verbs.into_iter().collect()))
            .collect();
        let withheld = Withheld {
            worker: manifest.name.clone(),
            tables,
            capabilities,
            enqueues,
            unconfined: self.confines() && !manifest.tenant_aware,
            scope_defaults: manifest.ignored_defaults().map(str::to_string).collect(),
        };
        (!withheld.is_empty()).then_some(withheld)
    }

    /// How much of the machine it may use.
    ///
    /// ```
    /// use std::time::Duration;
    /// use verger::{Grant, Limits};
    ///
    /// let grant = Grant::new()
    ///     .write("orders")
    ///     .limits(Limits::new().time(Duration::from_secs(30)).memory_bytes(32 << 20));
    /// ```
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// How long one attempt may last; the same as [`Limits::time`] of its limits.
    #[must_use]
    pub fn time_limit(mut self, time: Duration) -> Self {
        self.limits.time = time;
        self
    }

    fn verb(mut self, table: impl Into<String>, verb: Verb) -> Self {
        self.tables.entry(table.into().to_ascii_lowercase()).or_default().verbs.insert(verb, None);
        self
    }

    fn columns<C: Into<String>>(
        mut self,
        table: impl Into<String>,
        verb: Verb,
        columns: impl IntoIterator<Item = C>,
    ) -> Self {
        let columns = columns.into_iter().map(|column| column.into().to_ascii_lowercase());
        let verbs = &mut self.tables.entry(table.into().to_ascii_lowercase()).or_default().verbs;
        // All columns, once granted, stay granted.
        if let Some(known) = verbs.entry(verb).or_insert_with(|| Some(BTreeSet::new())) {
            known.extend(columns);
        }
        self
    }
}

/// What a worker asks for in its manifest and its grant does not give it: what a new version wants
/// more than the one that was granted. It runs without.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Withheld {
    /// The worker.
    pub worker: String,
    /// The tables, each with the verbs that are missing.
    pub tables: Vec<(String, Vec<Verb>)>,
    /// The app's functions.
    pub capabilities: Vec<String>,
    /// The workers it would enqueue jobs for.
    pub enqueues: Vec<String>,
    /// It says of itself that it is not tenant-aware, and its grant names a tenant column: it is
    /// confined all the same.
    pub unconfined: bool,
    /// The keys of a scope (`organization_id`, `actor_id`, `impersonating_from`) for which its
    /// manifest has a default. None is filled in: for whom a job runs, the app says.
    pub scope_defaults: Vec<String>,
}

impl Withheld {
    fn is_empty(&self) -> bool {
        let Self { worker: _, tables, capabilities, enqueues, unconfined, scope_defaults } = self;
        let nothing_asked = tables.is_empty() && capabilities.is_empty() && enqueues.is_empty();
        nothing_asked && !unconfined && scope_defaults.is_empty()
    }
}

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tables = self.tables.iter().map(|(table, verbs)| {
            let verbs: Vec<String> = verbs.iter().map(Verb::to_string).collect();
            format!("{} on table {table}", verbs.join(", "))
        });
        let asked: Vec<String> = tables
            .chain(self.capabilities.iter().map(|name| format!("capability `{name}`")))
            .chain(self.enqueues.iter().map(|name| format!("jobs for worker `{name}`")))
            .chain(self.unconfined.then(|| "to run unconfined, as not tenant-aware".to_string()))
            .chain(self.scope_defaults.iter().map(|key| format!("a default for `{key}`")))
            .collect();
        write!(f, "worker `{}` asks for what it is not granted: {}", self.worker, asked.join("; "))
    }
}

/// Declared ∩ granted, for one job: the tables its args name are resolved.
#[derive(Debug)]
pub(crate) struct Effective {
    worker: String,
    tables: BTreeMap<String, TableGrant>,
    /// What the manifest asks for and the grant withholds, to say which of the two is missing.
    withheld: BTreeMap<String, BTreeSet<Verb>>,
    capabilities: BTreeSet<String>,
    /// The other workers it may enqueue jobs for.
    enqueues: BTreeSet<String>,
    tenant_column: Option<String>,
    shared: BTreeSet<String>,
    pub(crate) limits: Limits,
    /// How long it may hold the write lock, if that is bounded.
    pub(crate) write_lock: Option<Duration>,
}

impl Effective {
    /// What a worker with this manifest may do under this grant in a job with these args.
    pub(crate) fn of(manifest: &Manifest, grant: &Grant, args: &Args) -> Self {
        let mut tables: BTreeMap<String, TableGrant> = BTreeMap::new();
        let mut withheld: BTreeMap<String, BTreeSet<Verb>> = BTreeMap::new();
        for ask in &manifest.tables {
            let table = ask.resolve(args).to_ascii_lowercase();
            for verb in &ask.verbs {
                let columns = if grant.as_declared {
                    Some(&None)
                } else {
                    grant.tables.get(&table).and_then(|granted| granted.verbs.get(verb))
                };
                match columns {
                    Some(columns) => {
                        tables
                            .entry(table.clone())
                            .or_default()
                            .verbs
                            .insert(*verb, columns.clone());
                    }
                    None => {
                        withheld.entry(table.clone()).or_default().insert(*verb);
                    }
                }
            }
        }
        let asked = manifest.capabilities.iter();
        let capabilities = asked
            .filter(|name| grant.as_declared || grant.capabilities.contains(*name))
            .cloned()
            .collect();
        let asked = manifest.enqueues.iter();
        let enqueues = asked
            .filter(|name| grant.as_declared || grant.enqueues.contains(*name))
            .cloned()
            .collect();
        Self {
            worker: format!("worker {}", manifest.name),
            tables,
            withheld,
            capabilities,
            enqueues,
            tenant_column: grant.tenant_column.clone(),
            shared: grant.shared.clone(),
            limits: grant.limits.clone(),
            write_lock: grant.limits.write_lock_of(grant.as_declared),
        }
    }

    /// The tables it covers in any way, in lower case.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &str> {
        self.tables.keys().map(String::as_str)
    }

    pub(crate) fn tenant_column(&self) -> Option<&str> {
        self.tenant_column.as_deref()
    }

    /// Whether a table belongs to no tenant.
    pub(crate) fn is_shared(&self, table: &str) -> bool {
        self.shared.contains(&table.to_ascii_lowercase())
    }

    pub(crate) fn worker(&self) -> &str {
        &self.worker
    }

    /// Whether a verb on a table, and on a column of it, is covered. The error names what is denied
    /// and what is granted.
    pub(crate) fn check(
        &self,
        verb: Verb,
        table: &str,
        column: Option<&str>,
    ) -> Result<(), String> {
        let key = table.to_ascii_lowercase();
        let granted = self.tables.get(&key);
        match granted.and_then(|granted| granted.verbs.get(&verb)) {
            Some(None) => return Ok(()),
            Some(Some(columns)) => {
                // The row as a whole: a count, or a delete.
                let Some(column) = column else { return Ok(()) };
                if columns.contains(&column.to_ascii_lowercase()) {
                    return Ok(());
                }
                let columns: Vec<_> = columns.iter().map(String::as_str).collect();
                return Err(format!(
                    "{verb} denied: column {table}.{column} ({} is granted {verb} on its columns {})",
                    self.worker,
                    columns.join(", ")
                ));
            }
            None => {}
        }
        let has = match granted {
            Some(granted) => {
                granted.verbs.keys().map(Verb::to_string).collect::<Vec<_>>().join(", ")
            }
            None => "nothing".to_string(),
        };
        let why = if self.withheld.get(&key).is_some_and(|verbs| verbs.contains(&verb)) {
            "; it asks for more than the app's grant gives"
        } else {
            "; its manifest does not ask for more"
        };
        Err(format!("{verb} denied: table {table} ({} is granted {has} on it{why})", self.worker))
    }

    /// Whether a verb on a table is granted on some of its columns only.
    pub(crate) fn is_narrowed(&self, verb: Verb, table: &str) -> bool {
        let granted = self.tables.get(&table.to_lowercase());
        matches!(granted.and_then(|granted| granted.verbs.get(&verb)), Some(Some(_)))
    }

    /// Whether a function of the app is covered.
    pub(crate) fn check_capability(&self, name: &str) -> Result<(), String> {
        if self.capabilities.contains(name) {
            return Ok(());
        }
        Err(format!("call denied: capability `{name}` ({} is not granted it)", self.worker))
    }

    /// Whether the worker of this name, `own`, may enqueue jobs for that worker.
    pub(crate) fn check_enqueue(&self, name: &str, own: &str) -> Result<(), String> {
        if name == own || self.enqueues.contains(name) {
            return Ok(());
        }
        Err(format!(
            "enqueue denied: jobs for worker `{name}` ({} enqueues for itself, and for those its manifest asks for and its grant names)",
            self.worker
        ))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;
    use verger_worker::{ArgSpec, TableAsk};

    fn manifest() -> Manifest {
        Manifest::new("w", "1")
            .arg("table", ArgSpec::default_value("orders"))
            .table(TableAsk::from_arg("table", "orders").read().update())
            .table(TableAsk::named("totals").read().insert())
            .capability("mailer")
    }

    fn args(text: &str) -> Args {
        Args::parse(text).unwrap()
    }

    #[test]
    fn an_empty_grant_grants_nothing() {
        let effective = Effective::of(&manifest(), &Grant::new(), &args("{}"));
        assert_eq!(
            effective.check(Verb::Read, "orders", None).unwrap_err(),
            "read denied: table orders (worker w is granted nothing on it; it asks for more than the app's grant gives)"
        );
        assert!(effective.check_capability("mailer").is_err());
    }

    #[test]
    fn what_is_granted_but_not_declared_stays_closed() {
        let effective =
            Effective::of(&manifest(), &Grant::new().write("totals").read("users"), &args("{}"));
        assert!(effective.check(Verb::Insert, "totals", None).is_ok());
        assert_eq!(
            effective.check(Verb::Delete, "totals", None).unwrap_err(),
            "delete denied: table totals (worker w is granted read, insert on it; its manifest does not ask for more)"
        );
        assert!(effective.check(Verb::Read, "users", None).is_err());
    }

    #[test]
    fn a_table_named_by_an_arg_needs_its_own_grant() {
        let grant = Grant::new().read("orders");
        assert!(
            Effective::of(&manifest(), &grant, &args("{}"))
                .check(Verb::Read, "Orders", Some("id"))
                .is_ok()
        );
        let other = Effective::of(&manifest(), &grant, &args(r#"{"table":"users"}"#));
        assert!(other.check(Verb::Read, "users", None).is_err());
        assert!(
            other.check(Verb::Read, "orders", None).is_err(),
            "the default is not in force when the arg names another"
        );
        let declared =
            Effective::of(&manifest(), &Grant::as_declared(), &args(r#"{"table":"users"}"#));
        assert!(declared.check(Verb::Update, "users", Some("x")).is_ok());
    }

    #[test]
    fn what_is_asked_and_not_granted_is_reported() {
        assert_eq!(
            Grant::new().read("orders").write("totals").withholds(&manifest()).unwrap().to_string(),
            "worker `w` asks for what it is not granted: update on table orders; capability `mailer`"
        );
        assert_eq!(
            Grant::new()
                .write("orders")
                .write("totals")
                .capability("mailer")
                .withholds(&manifest()),
            None
        );
        assert_eq!(Grant::as_declared().withholds(&manifest()), None);
    }

    #[test]
    fn what_would_lift_the_walls_around_a_tenant_is_reported() {
        let forging = manifest()
            .arg("actor_id", ArgSpec::default_value("ceo"))
            .arg("organization_id", ArgSpec::required());
        for grant in [Grant::as_declared(), Grant::as_declared().tenant_column("org")] {
            let withheld = grant.withholds(&forging).unwrap();
            assert_eq!(withheld.scope_defaults, ["actor_id"]);
            assert_eq!(withheld.unconfined, grant.confines());
            assert!(withheld.tables.is_empty() && withheld.capabilities.is_empty());
        }
        assert_eq!(
            Grant::as_declared().tenant_column("org").withholds(&forging).unwrap().to_string(),
            "worker `w` asks for what it is not granted: to run unconfined, as not tenant-aware; a default for `actor_id`"
        );
        let aware = manifest().tenant_aware();
        assert_eq!(Grant::as_declared().tenant_column("org").withholds(&aware), None);
    }

    #[test]
    fn only_ascii_letters_differ_in_case_alone_as_for_sqlite() {
        let manifest = Manifest::new("w", "1").table(TableAsk::named("kits").read());
        // U+212A, the sign for kelvin, is a `k` in lower case, and a table of its own to SQLite.
        let effective = Effective::of(&manifest, &Grant::new().read("KITS"), &args("{}"));
        assert!(effective.check(Verb::Read, "Kits", None).is_ok());
        assert!(effective.check(Verb::Read, "\u{212a}its", None).is_err());
        let other = Effective::of(&manifest, &Grant::new().read("\u{212a}its"), &args("{}"));
        assert!(other.check(Verb::Read, "kits", None).is_err());
    }

    #[test]
    fn columns_narrow_a_verb() {
        let effective = Effective::of(
            &manifest(),
            &Grant::new().read_columns("orders", ["id", "State"]),
            &args("{}"),
        );
        assert!(effective.check(Verb::Read, "orders", Some("state")).is_ok());
        assert!(effective.check(Verb::Read, "orders", None).is_ok());
        assert_eq!(
            effective.check(Verb::Read, "orders", Some("card")).unwrap_err(),
            "read denied: column orders.card (worker w is granted read on its columns id, state)"
        );
    }
}
