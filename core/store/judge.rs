//! The policy of the authorizer: what a worker's statement may do, given its grant. Pure: no connection in sight.
//!
//! SQLite tells the authorizer, beside the table and the column, the *accessor*: the innermost view or trigger an access comes
//! through. What comes through the app's own view or trigger is allowed: a worker can make neither, a view has to be granted to be
//! read, and a trigger fires only by a granted write. But the accessor can be forged: for `WITH x AS (SELECT … FROM secrets) …` it
//! is `x`. So it counts only when no such `WITH` can be in the statement's text, or when its name cannot be guessed.

use std::collections::BTreeSet;

use rusqlite::hooks::{AuthAction, AuthContext};
use verger_worker::Verb;

use crate::grant::Effective;

/// What the policy needs to know of the connection and the statement.
#[derive(Default)]
pub(super) struct Circumstances {
    /// The statement's text, in lower case.
    pub(super) text: Option<std::sync::Arc<str>>,
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

impl Circumstances {
    /// Whether an access comes through a view or a trigger of the app's, beyond doubt.
    fn is_the_apps(&self, accessor: &str) -> bool {
        let Some(text) = &self.text else { return false };
        let name = accessor.to_ascii_lowercase();
        // A name with a quote in it is written otherwise than it reads.
        let plain = !name.contains(['"', '`', '[', ']', '\'']);
        plain && !(text.contains("with") && text.contains(&name))
    }

    /// Whether the statement may be one that replaces: that says `OR REPLACE` or `REPLACE INTO`. `replace(…)` is a function.
    fn may_replace(&self) -> bool {
        let Some(text) = &self.text else { return true };
        text.match_indices("replace").any(|(at, word)| !text.get(at + word.len()..).is_some_and(|rest| rest.trim_start().starts_with('(')))
    }

    /// Whether this is a name of our own inner views and triggers.
    fn is_ours(&self, name: &str) -> bool {
        self.confined.as_ref().is_some_and(|shadows| !shadows.token.is_empty() && name.starts_with(&shadows.token))
    }
}

/// What a worker may do. Names what is denied.
pub(super) fn judge(grant: &Effective, around: &Circumstances, context: &AuthContext<'_>) -> Result<(), String> {
    let access = Access { grant, around, context };
    match context.action {
        AuthAction::Select | AuthAction::Recursive => Ok(()),
        AuthAction::Read { table_name, column_name } => access.touch(Verb::Read, table_name, Some(column_name)),
        AuthAction::Insert { table_name } => access.touch(Verb::Insert, table_name, None),
        AuthAction::Update { table_name, column_name } => access.touch(Verb::Update, table_name, Some(column_name)),
        AuthAction::Delete { table_name } => access.touch(Verb::Delete, table_name, None),
        AuthAction::Function { function_name } if is_allowed_function(function_name) => Ok(()),
        AuthAction::Function { .. } if context.accessor.is_some_and(|accessor| around.is_ours(accessor)) => Ok(()),
        AuthAction::Function { function_name } => Err(format!("call denied: SQL function {function_name} ({})", grant.worker())),
        ref other => Err(format!("{} ({}); workers run single SELECT, INSERT, UPDATE and DELETE statements", name(other), grant.worker())),
    }
}

struct Access<'a> {
    grant: &'a Effective,
    around: &'a Circumstances,
    context: &'a AuthContext<'a>,
}

impl Access<'_> {
    fn touch(&self, verb: Verb, table: &str, column: Option<&str>) -> Result<(), String> {
        let Self { grant, around, context } = self;
        let accessor = context.accessor;
        if around.is_ours(table) || accessor.is_some_and(|accessor| around.is_ours(accessor)) {
            return Ok(());
        }
        let own = |prefix: &str| table.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix));
        // CREATE, ALTER and DROP arrive as writes to the schema's own table first.
        if own("sqlite_") && verb != Verb::Read {
            return Err(format!("CREATE, ALTER and DROP denied: workers do not change the schema ({})", grant.worker()));
        }
        if own("verger_") || own("sqlite_") {
            return Err(format!("{verb} denied: {table} belongs to the engine ({})", grant.worker()));
        }
        // They only take a JSON text apart.
        if verb == Verb::Read && ["json_each", "json_tree"].contains(&table) {
            return Ok(());
        }
        let through = accessor.is_some_and(|accessor| around.is_the_apps(accessor));
        let column = column.filter(|column| !column.is_empty());
        let checked = match (context.database_name, &around.confined) {
            // The view that stands before a table.
            (None | Some("temp"), Some(shadows)) if shadows.tables.contains(&table.to_ascii_lowercase()) => {
                if verb != Verb::Read && around.may_replace() {
                    return Err(format!(
                        "REPLACE denied: on table {table} it could delete a row of another organization ({}); use UPDATE, or INSERT OR IGNORE",
                        grant.worker()
                    ));
                }
                if through { Ok(()) } else { grant.check(verb, table, column) }
            }
            (None | Some("main"), _) if through => Ok(()),
            (None | Some("main"), Some(_)) if !grant.is_shared(table) => grant.check(verb, table, column).and_then(|()| {
                let tenant = grant.tenant_column().unwrap_or("its tenant column");
                Err(format!(
                    "{verb} denied: table {table} as a whole ({} is confined to the job's organization: name the table without a schema; \
                     one without the column {tenant} has to be granted with shared())",
                    grant.worker()
                ))
            }),
            (None | Some("main"), _) => grant.check(verb, table, column),
            (Some(_), _) => Err(format!("{verb} denied: {table} is not in the main database ({})", grant.worker())),
        };
        checked.map_err(|reason| match accessor {
            Some(name) => format!("{reason}; it is reached through `{name}`: beside a WITH, a view or a trigger of that name does not count"),
            None => reason,
        })
    }
}

/// The functions a worker may call: all that only compute. Not those that touch files, the schema, other tables or SQLite's own
/// inner state, and not those that read the system's clock or belong to the engine.
fn is_allowed_function(name: &str) -> bool {
    const DENIED: [&str; 14] = [
        "load_extension",
        "readfile",
        "writefile",
        "edit",
        "fts3_tokenizer",
        "sqlite_log",
        "sqlite_compileoption_get",
        "sqlite_compileoption_used",
        "sqlite_offset",
        "current_time",
        "current_date",
        "current_timestamp",
        "rtreecheck",
        "sqlite_source_id",
    ];
    let ours = name.get(..7).is_some_and(|head| head.eq_ignore_ascii_case("verger_"));
    !ours && !DENIED.iter().any(|denied| name.eq_ignore_ascii_case(denied))
}

fn name(action: &AuthAction<'_>) -> String {
    match action {
        AuthAction::Pragma { pragma_name, .. } => format!("PRAGMA {pragma_name} denied"),
        // VACUUM arrives as an ATTACH of nothing.
        AuthAction::Attach { .. } => "ATTACH or VACUUM denied".to_string(),
        AuthAction::Transaction { .. } => "BEGIN, COMMIT and ROLLBACK denied: the run is one transaction, `checkpoint` commits it".to_string(),
        AuthAction::Savepoint { .. } => "SAVEPOINT denied: use begin-savepoint".to_string(),
        AuthAction::CreateTable { table_name } | AuthAction::CreateTempTable { table_name } => format!("CREATE TABLE {table_name} denied"),
        AuthAction::DropTable { table_name } | AuthAction::DropTempTable { table_name } => format!("DROP TABLE {table_name} denied"),
        AuthAction::AlterTable { table_name, .. } => format!("ALTER TABLE {table_name} denied"),
        other => {
            let text = format!("{other:?}");
            let word: String = text.chars().take_while(|c| c.is_alphanumeric()).collect();
            format!("{word} denied")
        }
    }
}
