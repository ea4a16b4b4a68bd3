//! The policy of the authorizer: what a worker's statement may do, given its grant. It is pure and
//! needs no connection.
//!
//! What the app's own views, triggers and virtual tables touch on a worker's behalf is allowed. A
//! worker can make none of them, a view has to be granted to be read, and a trigger fires only by a
//! granted write. The statement's tokens tell such an access from one of the worker's own: to
//! access a table itself, a statement must have the table's name as a token. The tokens are told
//! apart as SQLite does it.
//!
//! If one token is the name, the *accessor* decides: the innermost view or trigger, as SQLite
//! reports it. That is weaker, because it can be forged. For `WITH x AS (SELECT … FROM secrets) …`
//! it is `x`. For an UPDATE or DELETE of a view it is that view, also in the statement's own WHERE
//! and RETURNING. If SQLite pushes a term of the statement's own into a view, it counts as the
//! view's.

use rusqlite::hooks::{AuthAction, AuthContext};
use verger_worker::Verb;

use super::functions;
use super::statement_context::StatementContext;
use crate::grant::Effective;

/// What a worker may do. The error names what is denied.
pub(super) fn authorize(
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
        AuthAction::Function { function_name } if is_open(around, function_name) => Ok(()),
        // Called by a view or a trigger.
        AuthAction::Function { function_name } if !around.mentions(function_name) => Ok(()),
        AuthAction::Function { function_name } => {
            let name = function_name.to_ascii_lowercase();
            let why = if around.closed_functions.contains(&name) {
                "the app registered it without SQLITE_INNOCUOUS"
            } else {
                functions::why_denied(&name)
            };
            Err(format!("call denied: SQL function {function_name} ({}; {why})", grant.worker()))
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

    /// A row in the way of one that REPLACE inserts is deleted, and SQLite does not ask whether it
    /// may be. Triggers that the statement fires replace rows too, whatever they say themselves.
    fn check_replaced(&self, verb: Verb, table: &str) -> Result<(), String> {
        let Self { grant, around, context } = self;
        let name = table.to_ascii_lowercase();
        // A virtual table writes its own tables by statements of its own.
        let is_inner = context.accessor.is_none() && !around.mentions(table);
        let writes = matches!(verb, Verb::Insert | Verb::Update);
        if !writes || !around.replaces() || is_inner || around.views.contains(&name) {
            return Ok(());
        }
        let shadows = around.confined.as_ref();
        if context.database_name != Some("main")
            && shadows.is_some_and(|shadows| shadows.tables.contains(&name))
        {
            // The wall before a table refuses by itself.
            return Ok(());
        }
        let because = |reason: String| format!("{reason}; REPLACE could delete rows of {table}");
        grant.check(Verb::Delete, table, None).map_err(because)?;
        if shadows.is_some() && !grant.is_shared(table) {
            return Err(because(self.as_a_whole(Verb::Delete, table)));
        }
        Ok(())
    }

    /// What virtual tables do unasked: they take commands in a column of their own name, and
    /// arguments in hidden columns.
    fn check_virtual(&self, verb: Verb, table: &str) -> Result<(), String> {
        let Self { grant, around, context } = self;
        if context.accessor.is_some() || !around.mentions(table) {
            return Ok(());
        }
        let name = table.to_ascii_lowercase();
        let Some(module) = around.virtual_tables.get(&name) else { return Ok(()) };
        let denied = |why: &str| {
            Err(format!("{verb} denied: virtual table {table} ({}; {why})", grant.worker()))
        };
        match verb {
            Verb::Insert if around.times(table) > 1 => denied(
                "an INSERT that names it twice may be a command to it, which no grant covers",
            ),
            Verb::Read if grant.is_narrowed(verb, table) => denied(
                "a search compares columns that SQLite does not tell of: grant all of them, or none",
            ),
            _ if module == "fts5" && !around.has_bounded_full_text => {
                denied("the searches of the FTS5 of this SQLite have no bound")
            }
            Verb::Read if module.starts_with("fts3") || module.starts_with("fts4") => {
                denied("the searches of FTS3 and FTS4 have no bound: use FTS5")
            }
            _ => Ok(()),
        }
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
        // The app's own triggers may enqueue. A worker's own INSERT has no accessor: SQLite names
        // one only inside the program of a trigger, and a worker can make no trigger.
        if verb == Verb::Insert
            && table == "verger_jobs"
            && accessor.is_some()
            && context.database_name.is_none_or(|database| database == "main")
        {
            return Ok(());
        }
        if own("verger_") || own("sqlite_") {
            return Err(format!(
                "{verb} denied: {table} belongs to the engine ({})",
                grant.worker()
            ));
        }
        // Its books of what it has copied, in the app's file.
        if own("_litestream_") {
            return Err(format!(
                "{verb} denied: {table} belongs to Litestream ({})",
                grant.worker()
            ));
        }
        // They only take a JSON text apart.
        if verb == Verb::Read && ["json_each", "json_tree"].contains(&table) {
            return Ok(());
        }
        let column = column.filter(|column| !column.is_empty());
        self.check_replaced(verb, table)?;
        self.check_virtual(verb, table)?;
        // SQLite asks this of a common table expression too, when none of its columns is read.
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
            // The wall before a table.
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

/// The functions a worker may call: those of SQLite whose worst case is known, and those that the
/// app added and marked as innocuous.
fn is_open(around: &StatementContext, name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    (functions::is_allowed(&name) || around.open_functions.contains(&name))
        && !is_own(&name)
        && !(around.confined.is_some() && counts(&name))
        && !around.closed_functions.contains(&name)
}

/// The last change on the connection may have been another tenant's.
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
