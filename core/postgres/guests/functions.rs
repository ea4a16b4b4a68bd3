//! The engine's own statements in the transaction of a component, as functions.
//!
//! The role of a worker may touch nothing of Verger's. Each statement that a run sends of its own
//! is therefore the body of a function with the rights of the tables' owner. It asks for the secret
//! of the session, which is a bound parameter: no statement of a guest sees it. The text of each is
//! the one that a native worker's run sends, so that there is one.

use std::collections::{BTreeSet, HashMap};

use sha2::{Digest, Sha256};

use super::super::{audit, cancel, events, jobs, migrate, state, transition};
use super::roles::type_name;
use crate::postgres::session::Session;
use crate::store::StoreError;
use crate::text::hex;

const MAKING: &str = "make the functions for components";

/// Part of each name: what was made in another way has another name.
const MADE: &[u8] = b"1";

/// Says which tenant the transaction is for: none, or one.
pub(in crate::postgres) const ENTER: &str = "UPDATE verger.guests SET xid = pg_current_xact_id(), organization_id = $1 WHERE pid = pg_backend_pid()";

/// The calls that stand for the engine's statements.
pub(in crate::postgres) struct Functions {
    calls: HashMap<&'static str, Call>,
}

/// A call of one function.
pub(in crate::postgres) struct Call {
    pub(in crate::postgres) text: String,
    /// It returns the rows of its statement, and not how many there were.
    pub(in crate::postgres) returns_rows: bool,
}

impl Functions {
    pub(super) fn of(&self, sql: &str) -> Option<&Call> {
        self.calls.get(sql)
    }
}

fn statements() -> impl Iterator<Item = &'static str> {
    let rooms: [&[&'static str]; 7] = [
        &[ENTER],
        &transition::OF_A_RUN,
        &events::OF_A_RUN,
        &audit::OF_A_RUN,
        &jobs::OF_A_RUN,
        &state::OF_A_RUN,
        &cancel::OF_A_RUN,
    ];
    rooms.into_iter().flatten().copied()
}

/// Makes the functions that are missing, and returns how each is called.
pub(super) fn install(session: &mut Session) -> Result<Functions, StoreError> {
    let sql = "SELECT proname::text FROM pg_proc WHERE pronamespace = 'verger_run'::regnamespace \
         AND proowner = (SELECT nspowner FROM pg_namespace WHERE nspname = 'verger')";
    let there: BTreeSet<String> =
        session.query(MAKING, sql, &[])?.iter().map(|row| row.get(0)).collect();
    let (mut calls, mut missing) = (HashMap::new(), String::new());
    for sql in statements() {
        let function = Function::of(session, sql)?;
        if !there.contains(&function.name) {
            missing.push_str(&function.definition(sql));
        }
        calls.insert(sql, function.call());
    }
    if !missing.is_empty() {
        session.transaction(MAKING, |session| {
            // Nodes that open at the same time take turns.
            session.batch(MAKING, migrate::LOCK)?;
            session.batch(MAKING, &missing)
        })?;
    }
    Ok(Functions { calls })
}

struct Function {
    name: String,
    params: Vec<String>,
    columns: Vec<String>,
}

impl Function {
    /// The server says which types a statement takes and returns.
    fn of(session: &mut Session, sql: &str) -> Result<Self, StoreError> {
        let digest = Sha256::new().chain_update(MADE).chain_update(sql).finalize();
        let statement = session.statement(MAKING, sql)?;
        Ok(Self {
            name: format!("engine_{}", hex(&digest[..8])),
            params: statement.params().iter().map(type_name).collect(),
            columns: statement.columns().iter().map(|column| type_name(column.type_())).collect(),
        })
    }

    fn definition(&self, sql: &str) -> String {
        let (name, secret) = (&self.name, self.params.len() + 1);
        let params: String = self.params.iter().map(|of| format!("{of}, ")).collect();
        let columns = self.columns.iter().enumerate();
        let columns: Vec<String> =
            columns.map(|(place, of)| format!("verger_column_{place} {of}")).collect();
        let (returns, body) = match columns.is_empty() {
            true => (
                "bigint".to_string(),
                format!("{sql}; GET DIAGNOSTICS verger_rows = ROW_COUNT; RETURN verger_rows;"),
            ),
            false => (format!("TABLE ({})", columns.join(", ")), format!("RETURN QUERY {sql};")),
        };
        format!(
            "CREATE OR REPLACE FUNCTION verger_run.{name} ({params}bytea) RETURNS {returns} LANGUAGE plpgsql \
             SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $verger$\n\
             #variable_conflict use_column\n\
             DECLARE verger_rows bigint; BEGIN PERFORM verger.admit(${secret}); {body} END $verger$;\n"
        )
    }

    fn call(&self) -> Call {
        let params: Vec<String> =
            (1..=self.params.len() + 1).map(|place| format!("${place}")).collect();
        let text = format!("SELECT * FROM verger_run.{} ({})", self.name, params.join(", "));
        Call { text, returns_rows: !self.columns.is_empty() }
    }
}
