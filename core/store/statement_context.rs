//! What the policy of the authorizer needs to know of the connection and the statement.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use verger_worker::Verb;

use super::tokens::Tokens;

/// The connection and the statement, as the policy sees them.
#[derive(Default)]
pub(super) struct StatementContext {
    /// The statement's tokens.
    pub(super) tokens: Option<Arc<Tokens>>,
    /// The table or view it writes to, if it writes.
    pub(super) target: Option<String>,
    /// The app's views, in lower case.
    pub(super) views: BTreeSet<String>,
    /// What else a name in a FROM may stand for, besides common table expressions, in lower case:
    /// tables and modules.
    pub(super) tables: BTreeSet<String>,
    /// The app's virtual tables, each with its module, in lower case.
    pub(super) virtual_tables: BTreeMap<String, String>,
    /// The functions that the app added and marked as innocuous, in lower case.
    pub(super) open_functions: BTreeSet<String>,
    /// The functions that the app added and did not mark as innocuous, in lower case.
    pub(super) closed_functions: BTreeSet<String>,
    /// Whether all searches of FTS5 are bounded.
    pub(super) has_bounded_full_text: bool,
    /// The view that may not be read and that the statement names, once that was looked up.
    pub(super) closed: OnceCell<Option<String>>,
    /// The walls, if the connection confines its workers to one tenant.
    pub(super) confined: Option<Shadows>,
}

/// The walls before an app's tables on a confined connection: virtual tables, or views for
/// RETURNING.
pub(super) struct Shadows {
    /// The prefix of the names of their inner tables and triggers. A worker cannot know it.
    pub(super) token: String,
    /// The tables behind walls, in lower case.
    pub(super) tables: BTreeSet<String>,
}

impl StatementContext {
    /// Whether a view, a trigger or a virtual table of the app's makes an access to a table, beyond
    /// doubt.
    pub(super) fn is_the_apps(
        &self,
        accessor: Option<&str>,
        table: &str,
        column: Option<&str>,
    ) -> bool {
        if !self.mentions(table) {
            return true;
        }
        let Some(accessor) = accessor else { return false };
        let may_be_a_with = self.mentions("with") && self.mentions(accessor);
        // After terms were pushed into views, only the access to a table as a whole is in doubt.
        !may_be_a_with && !self.is_target(accessor) && column.is_some()
    }

    /// Whether a name can only be that of a common table expression.
    pub(super) fn is_a_with(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        self.mentions("with")
            && !self.views.contains(&name)
            && !self.tables.contains(&name)
            && !name.starts_with("pragma_")
    }

    pub(super) fn is_target(&self, name: &str) -> bool {
        self.target.as_ref().is_some_and(|target| target.eq_ignore_ascii_case(name))
    }

    /// Whether the statement may contain this name.
    pub(super) fn mentions(&self, name: &str) -> bool {
        self.times(name) > 0
    }

    /// How often the statement may contain this name.
    pub(super) fn times(&self, name: &str) -> u32 {
        match &self.tokens {
            Some(tokens) => tokens.count(name),
            None => u32::MAX,
        }
    }

    /// Whether the statement may replace rows.
    pub(super) fn replaces(&self) -> bool {
        self.tokens.as_ref().is_none_or(|tokens| tokens.replaces())
    }

    /// Whether a column is read only because an UPDATE or DELETE of a view reads all columns of it,
    /// and the statement itself cannot tell what is in it. It names neither the column nor, a
    /// second time, the view.
    pub(super) fn is_only_materialized(&self, view: &str, column: &str) -> bool {
        self.is_target(view)
            && !self.mentions(column)
            && self.times(view) < 2
            && !self.mentions("returning")
    }

    /// Refuses writes that cannot be kept to one tenant's rows, or reported truly, when a wall is
    /// before a table.
    pub(super) fn check_write(&self, verb: Verb, table: &str) -> Result<(), String> {
        if verb == Verb::Read {
            return Ok(());
        }
        if self.replaces() {
            return Err(format!(
                "REPLACE denied: on table {table} it could delete a row of another organization; use UPDATE, or INSERT OR IGNORE"
            ));
        }
        // SQLite returns the row as it was proposed: without its id and its defaults, and also when
        // it was ignored.
        if self.mentions("returning")
            && (verb == Verb::Insert || verb == Verb::Update && self.mentions("ignore"))
        {
            return Err(format!(
                "RETURNING denied: on table {table} it would return what was proposed, not the row; choose the key, and query"
            ));
        }
        Ok(())
    }

    /// Whether this is a name of our own inner tables and triggers.
    pub(super) fn is_ours(&self, name: &str) -> bool {
        self.confined
            .as_ref()
            .is_some_and(|shadows| !shadows.token.is_empty() && name.starts_with(&shadows.token))
    }
}
