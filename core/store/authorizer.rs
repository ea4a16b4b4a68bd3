//! The policy of the authorizer: what a worker's statement may do, given its grant. Pure: no
//! connection in sight.
//!
//! What the app's own views, triggers and virtual tables touch on a worker's behalf is allowed: a
//! worker can make none of them, a view has to be granted to be read, and a trigger fires only by a
//! granted write. What tells such an access from one of the worker's own is the statement's text:
//! the worker's own has to name the table there.
//!
//! Where the text does name the table, the *accessor* decides, the innermost view or trigger, as
//! SQLite tells it. It is weaker, for it can be forged. For `WITH x AS (SELECT … FROM secrets) …`
//! it is `x`; for an UPDATE or DELETE of a view it is that view, also in the statement's own WHERE
//! and RETURNING; and a term of the statement's own that SQLite pushes into a view is counted as
//! the view's.

use std::cell::OnceCell;
use std::collections::BTreeSet;

use rusqlite::hooks::{AuthAction, AuthContext};
use verger_worker::Verb;

use crate::grant::Effective;

/// What the policy needs to know of the connection and the statement.
#[derive(Default)]
pub(super) struct StatementContext {
    /// The statement's text, in lower case.
    pub(super) text: Option<std::sync::Arc<str>>,
    /// The table or view it writes to, if it does.
    pub(super) target: Option<String>,
    /// The app's views, in lower case.
    pub(super) views: BTreeSet<String>,
    /// What else a name in a FROM may stand for beside common table expressions, in lower case:
    /// tables and modules.
    pub(super) tables: BTreeSet<String>,
    /// The functions that the app added and did not mark as innocuous, in lower case.
    pub(super) closed_functions: BTreeSet<String>,
    /// The view that closes indirect ways to this statement, once that was asked.
    pub(super) closed: OnceCell<Option<String>>,
    /// The connection confines its workers to one tenant.
    pub(super) confined: Option<Shadows>,
}

/// The views that stand before an app's tables on a confined connection.
pub(super) struct Shadows {
    /// What the names of the inner views and triggers begin with. A worker cannot know it.
    pub(super) token: String,
    /// The tables that are shadowed, in lower case.
    pub(super) tables: BTreeSet<String>,
}

impl StatementContext {
    /// Whether an access to a table is made by a view, a trigger or a virtual table of the app's,
    /// beyond doubt.
    fn is_the_apps(&self, accessor: Option<&str>, table: &str, column: Option<&str>) -> bool {
        if !self.mentions(table) {
            return true;
        }
        let Some(accessor) = accessor else { return false };
        let may_be_a_with = self.mentions("with") && self.mentions(accessor);
        // Only the look at a table as a whole is judged after terms were pushed into views.
        !may_be_a_with && !self.is_target(accessor) && column.is_some()
    }

    /// Whether a name can only be that of a common table expression.
    fn is_a_with(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        self.mentions("with")
            && !self.views.contains(&name)
            && !self.tables.contains(&name)
            && !name.starts_with("pragma_")
    }

    fn is_target(&self, name: &str) -> bool {
        self.target.as_ref().is_some_and(|target| target.eq_ignore_ascii_case(name))
    }

    /// Whether the statement may name this, as a word of its own.
    fn mentions(&self, name: &str) -> bool {
        self.mentioned(name, 1)
    }

    /// Whether the statement may name this at least so many times.
    fn mentioned(&self, name: &str, times: usize) -> bool {
        let Some(text) = &self.text else { return true };
        let name = name.to_ascii_lowercase();
        // A name with a quote in it is written otherwise than it reads.
        if name.is_empty() || name.contains(['"', '`', '[', ']', '\'']) {
            return true;
        }
        let is_part = |byte: u8| {
            byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || !byte.is_ascii()
        };
        let bytes = text.as_bytes();
        let places = text.match_indices(&*name).filter(|(at, _)| {
            let before = at.checked_sub(1).and_then(|place| bytes.get(place));
            let after = bytes.get(at + name.len());
            !before.is_some_and(|byte| is_part(*byte)) && !after.is_some_and(|byte| is_part(*byte))
        });
        places.take(times).count() == times
    }

    /// Whether a column is read because all columns of a view are, for an UPDATE or DELETE of it,
    /// and the statement itself cannot tell what is in it: it names neither the column nor, a
    /// second time, the view.
    fn is_only_materialized(&self, view: &str, column: &str) -> bool {
        self.is_target(view)
            && !self.mentions(column)
            && !self.mentioned(view, 2)
            && !self.mentions("returning")
    }

    /// What cannot be kept to one tenant's rows, or told truly, when a view stands before a table.
    fn check_write(&self, verb: Verb, table: &str) -> Result<(), String> {
        if verb == Verb::Read {
            return Ok(());
        }
        if self.may_replace() {
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

    /// Whether the statement may be one that replaces: that says `OR REPLACE` or `REPLACE INTO`.
    /// `replace(…)` is a function.
    fn may_replace(&self) -> bool {
        let Some(text) = &self.text else { return true };
        text.match_indices("replace").any(|(at, word)| {
            !text.get(at + word.len()..).is_some_and(|rest| rest.trim_start().starts_with('('))
        })
    }

    /// Whether this is a name of our own inner views and triggers.
    fn is_ours(&self, name: &str) -> bool {
        self.confined
            .as_ref()
            .is_some_and(|shadows| !shadows.token.is_empty() && name.starts_with(&shadows.token))
    }
}

/// What a worker may do. Names what is denied.
pub(super) fn judge(
    grant: &Effective,
    around: &StatementContext,
    context: &AuthContext<'_>,
) -> Result<(), String> {
    let access = Access { grant, around, context };
    match context.action {
        AuthAction::Select | AuthAction::Recursive => Ok(()),
        AuthAction::Read { table_name, column_name } => {
            access.touch(Verb::Read, table_name, Some(column_name))
        }
        AuthAction::Insert { table_name } => access.touch(Verb::Insert, table_name, None),
        AuthAction::Update { table_name, column_name } => {
            access.touch(Verb::Update, table_name, Some(column_name))
        }
        AuthAction::Delete { table_name } => access.touch(Verb::Delete, table_name, None),
        AuthAction::Function { function_name }
            if is_allowed_function(function_name)
                && !(around.confined.is_some() && counts(function_name))
                && !around.closed_functions.contains(&function_name.to_ascii_lowercase()) =>
        {
            Ok(())
        }
        // Called by a view or a trigger.
        AuthAction::Function { function_name } if !around.mentions(function_name) => Ok(()),
        AuthAction::Function { function_name } => {
            let why = if around.closed_functions.contains(&function_name.to_ascii_lowercase()) {
                "; the app registered it without SQLITE_INNOCUOUS"
            } else {
                ""
            };
            Err(format!("call denied: SQL function {function_name} ({}{why})", grant.worker()))
        }
        // FTS5 asks this on its own behalf.
        AuthAction::Pragma { pragma_name: "data_version", pragma_value: None }
            if !around.mentions("pragma") =>
        {
            Ok(())
        }
        ref other => Err(format!(
            "{} ({}); workers run single SELECT, INSERT, UPDATE and DELETE statements",
            name(other),
            grant.worker()
        )),
    }
}

struct Access<'a> {
    grant: &'a Effective,
    around: &'a StatementContext,
    context: &'a AuthContext<'a>,
}

impl Access<'_> {
    /// A view that the statement names and may not read. SQLite asks about a view's columns, but
    /// not about a view of which none is read: `SELECT count(*)`.
    fn closed_view(&self) -> Option<String> {
        let Self { grant, around, .. } = self;
        let closed = |view: &str| {
            let granted = around.is_target(view) || grant.check(Verb::Read, view, None).is_ok();
            let whole = around.confined.as_ref().is_some_and(|shadows| {
                !grant.is_shared(view)
                    && (!shadows.tables.contains(view) || around.mentions("main"))
            });
            !granted || whole
        };
        around.views.iter().find(|view| around.mentions(view) && closed(view)).cloned()
    }

    fn as_a_whole(&self, verb: Verb, table: &str) -> String {
        let tenant = self.grant.tenant_column().unwrap_or("its tenant column");
        format!(
            "{verb} denied: table {table} as a whole ({} is confined to the job's organization: name the table without a schema; \
             one without the column {tenant} has to be granted with shared())",
            self.grant.worker()
        )
    }

    fn touch(&self, verb: Verb, table: &str, column: Option<&str>) -> Result<(), String> {
        let Self { grant, around, context } = self;
        let accessor = context.accessor;
        if around.is_ours(table) || accessor.is_some_and(|accessor| around.is_ours(accessor)) {
            return Ok(());
        }
        let own = |prefix: &str| begins_with(table, prefix);
        // CREATE, ALTER and DROP arrive as writes to the schema's own table first.
        if own("sqlite_") && verb != Verb::Read {
            return Err(format!(
                "CREATE, ALTER and DROP denied: workers do not change the schema ({})",
                grant.worker()
            ));
        }
        if own("verger_") || own("sqlite_") {
            return Err(format!(
                "{verb} denied: {table} belongs to the engine ({})",
                grant.worker()
            ));
        }
        // They only take a JSON text apart.
        if verb == Verb::Read && ["json_each", "json_tree"].contains(&table) {
            return Ok(());
        }
        let column = column.filter(|column| !column.is_empty());
        // Asked of a common table expression too, when none of its columns is read.
        if verb == Verb::Read
            && column.is_none()
            && context.database_name.is_none()
            && around.is_a_with(table)
        {
            return Ok(());
        }
        if around.is_the_apps(accessor, table, column)
            && context.database_name.is_none_or(|database| database == "main")
        {
            return match around.closed.get_or_init(|| self.closed_view()) {
                None => Ok(()),
                Some(view) => Err(format!(
                    "{verb} denied: {table}, by way of view {view} ({} may not read it{}; where it is not meant, write the name as a parameter)",
                    grant.worker(),
                    if around.confined.is_some() {
                        " as a whole: it is confined to the job's organization"
                    } else {
                        ""
                    },
                )),
            };
        }
        let checked = match (context.database_name, &around.confined) {
            // The view that stands before a table.
            (None | Some("temp"), Some(shadows))
                if shadows.tables.contains(&table.to_ascii_lowercase()) =>
            {
                around.check_write(verb, table).map_err(|reason| {
                    format!("{reason} ({} is confined to the job's organization)", grant.worker())
                })?;
                match column {
                    Some(column)
                        if verb == Verb::Read && around.is_only_materialized(table, column) =>
                    {
                        Ok(())
                    }
                    _ => grant.check(verb, table, column),
                }
            }
            (None | Some("main"), Some(_)) if !grant.is_shared(table) => {
                grant.check(verb, table, column).and_then(|()| Err(self.as_a_whole(verb, table)))
            }
            (None | Some("main"), _) => grant.check(verb, table, column),
            (Some(_), _) => Err(format!(
                "{verb} denied: {table} is not in the main database ({})",
                grant.worker()
            )),
        };
        checked.map_err(|reason| match accessor {
            Some(name) => {
                format!("{reason}; it is reached through `{name}`, which does not count where the statement itself names {table}")
            }
            None => reason,
        })
    }
}

/// The functions a worker may call: all that only compute. Not those that touch files, the schema,
/// other tables or SQLite's own inner state, not those that belong to the engine, and not those
/// whose time grows with the square of their arguments. The time they tell is that of the run's
/// clock.
fn is_allowed_function(name: &str) -> bool {
    const DENIED: [&str; 13] = [
        "json_patch",
        "jsonb_patch",
        "load_extension",
        "readfile",
        "writefile",
        "edit",
        "fts3_tokenizer",
        "sqlite_log",
        "sqlite_compileoption_get",
        "sqlite_compileoption_used",
        "sqlite_offset",
        "rtreecheck",
        "sqlite_source_id",
    ];
    !is_own(name) && !DENIED.iter().any(|denied| name.eq_ignore_ascii_case(denied))
}

/// What the connection changed last may have been another tenant's.
fn counts(name: &str) -> bool {
    ["changes", "total_changes", "last_insert_rowid"]
        .iter()
        .any(|counts| name.eq_ignore_ascii_case(counts))
}

fn is_own(name: &str) -> bool {
    begins_with(name, "verger_")
}

fn begins_with(name: &str, prefix: &str) -> bool {
    name.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix))
}

fn name(action: &AuthAction<'_>) -> String {
    match action {
        AuthAction::Pragma { pragma_name, .. } => format!("PRAGMA {pragma_name} denied"),
        // VACUUM arrives as an ATTACH of nothing.
        AuthAction::Attach { .. } => "ATTACH or VACUUM denied".to_string(),
        AuthAction::Transaction { .. } => {
            "BEGIN, COMMIT and ROLLBACK denied: the run is one transaction, `checkpoint` commits it"
                .to_string()
        }
        AuthAction::Savepoint { .. } => "SAVEPOINT denied: use begin-savepoint".to_string(),
        AuthAction::CreateTable { table_name } | AuthAction::CreateTempTable { table_name } => {
            format!("CREATE TABLE {table_name} denied")
        }
        AuthAction::DropTable { table_name } | AuthAction::DropTempTable { table_name } => {
            format!("DROP TABLE {table_name} denied")
        }
        AuthAction::AlterTable { table_name, .. } => format!("ALTER TABLE {table_name} denied"),
        other => {
            let text = format!("{other:?}");
            let word: String = text.chars().take_while(|c| c.is_alphanumeric()).collect();
            format!("{word} denied")
        }
    }
}
