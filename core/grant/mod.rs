//! What the app lets one worker touch. It is a pure value: policy is decided here and enforced
//! elsewhere.

mod effective;
mod withheld;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use verger_worker::Verb;

pub(crate) use self::effective::Effective;
pub use self::withheld::Withheld;
use crate::limits::Limits;

/// What a worker may touch: nothing, until the app says so.
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

/// What a worker may do with one table: for each verb, all columns or only these.
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

    /// A grant of all that the worker's manifest asks for, including tables that args name. It is
    /// for workers that the app ships itself. The built-in workers have it.
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
    /// With it, a job that has an `organization_id` sees, changes and counts only that tenant's
    /// rows, whatever SQL its worker sends. A row it inserts gets the tenant. A table without the
    /// column is refused unless it is [`shared`](Self::shared). A job whose `organization_id` is
    /// null is not confined. A confined table takes no UPSERT and no REPLACE. Rows of a confined
    /// view can only be read and inserted.
    ///
    /// The tenant is compared as text, by the rules of its column. An `organization_id` of 7 is the
    /// tenant of the rows with 7 in a column of numbers, and of those with `'7'` in a column of
    /// text. A row with NULL or bytes in it belongs to nobody, and so does a number in a column
    /// without a type.
    ///
    /// It holds whatever the worker says of itself: a worker whose manifest is not `tenant_aware`
    /// is confined too. So every job of such a worker must carry the keys `organization_id` and
    /// `actor_id`, null where it is for all tenants. A job without them is refused.
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

    /// This table belongs to no tenant. Confined jobs may use it too, as far as it is granted.
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

    /// May enqueue jobs for this worker. It may always enqueue jobs for itself.
    #[must_use]
    pub fn enqueue(mut self, worker: impl Into<String>) -> Self {
        self.enqueues.insert(worker.into());
        self
    }

    /// Grants only to the component with this SHA-256, in hexadecimal digits, as `verger plugin
    /// inspect` prints it. Another file of the same worker, a new version included, is refused
    /// until someone has looked at it.
    #[must_use]
    pub fn for_digest(mut self, sha256: impl Into<String>) -> Self {
        self.digest = Some(sha256.into().trim().to_lowercase());
        self
    }

    /// Whether a job of a tenant is confined to that tenant.
    pub(crate) fn confines(&self) -> bool {
        self.tenant_column.is_some()
    }

    pub(crate) fn is_as_declared(&self) -> bool {
        self.as_declared
    }

    pub(crate) fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
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

    /// How long one attempt may last.
    #[cfg(feature = "postgres")]
    pub(crate) fn time(&self) -> Duration {
        self.limits.time
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

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
mod tests {
    use super::*;
    use verger_worker::{ArgSpec, Args, Manifest, TableAsk};

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
        // U+212A, the Kelvin sign, becomes `k` in lower case, but SQLite takes it for another
        // letter.
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
