//! One connection to the server, checked before its first use and made anew when it is lost.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fallible_iterator::FallibleIterator;

use postgres::types::{ToSql, Type};
use postgres::{Client, Error, Row, Statement};

use super::address::Address;
use super::failure::{Doing, is_lost, not_connected, unusable};
use super::guests::Gate;
use crate::store::StoreError;

/// A connection that was not used for this long is looked at before it is used again.
const UNUSED: Duration = Duration::from_secs(1);

/// The oldest server that has what the tables need: `UNIQUE NULLS NOT DISTINCT`.
const OLDEST: i32 = 150_000;

/// Statements that stay prepared on a connection.
const STATEMENTS_MAX: usize = 500;

const OPENING: &str = "open the database";

/// Parameters of a statement.
pub(super) type Params<'a> = &'a [&'a (dyn ToSql + Sync)];

/// A connection, with the statements that were prepared on it.
pub(super) struct Session {
    address: Arc<Address>,
    /// How the engine's own statements are sent, where the session has the role of a worker.
    gate: Option<Gate>,
    client: Option<Client>,
    statements: HashMap<String, Statement>,
    /// How often a connection was made.
    generation: u64,
    /// Numbers that were given.
    numbers: u64,
    /// When it was used last.
    used: Instant,
    /// A transaction is open, so that no other connection can take the place of this one.
    in_transaction: bool,
}

impl Session {
    /// Will connect at its first use.
    pub(super) fn new(address: Arc<Address>) -> Self {
        Self {
            address,
            gate: None,
            client: None,
            statements: HashMap::new(),
            generation: 0,
            numbers: 0,
            used: Instant::now(),
            in_transaction: false,
        }
    }

    /// The same, for a session that has the role of a worker.
    #[cfg_attr(not(feature = "wasm"), allow(dead_code, reason = "only components are guests"))]
    pub(super) fn of_guest(address: Arc<Address>, gate: Gate) -> Self {
        let mut session = Self::new(address);
        session.gate = Some(gate);
        session
    }

    /// A number that is another one for each connection.
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether there is a connection, as far as is known.
    pub(super) fn is_connected(&self) -> bool {
        self.client.as_ref().is_some_and(|client| !client.is_closed())
    }

    /// The connection. One that was lost is made anew, but for a component's: the engine has to
    /// let that in first.
    pub(super) fn client(&mut self) -> Result<&mut Client, StoreError> {
        self.look_at_it();
        match self.gate {
            Some(_) => self.client.as_mut().ok_or_else(lost),
            None => self.connected(),
        }
    }

    /// The connection, made anew if it was lost, whosever it is.
    pub(super) fn connect(&mut self) -> Result<&mut Client, StoreError> {
        self.look_at_it();
        self.connected()
    }

    /// Whether there is a connection, and no transaction.
    pub(super) fn is_at_rest(&self) -> bool {
        self.is_connected() && !self.in_transaction
    }

    /// Forgets a connection that ended while nobody used it.
    fn look_at_it(&mut self) {
        if !self.in_transaction && self.used.elapsed() > UNUSED && self.is_dead() {
            self.forget();
        }
        self.used = Instant::now();
    }

    fn connected(&mut self) -> Result<&mut Client, StoreError> {
        let client = match self.client.take() {
            Some(client) => client,
            None if self.in_transaction => return Err(lost()),
            None => {
                let mut client =
                    self.address.connect().map_err(|error| not_connected(OPENING, &error))?;
                check(&mut client, self.address.only_reads())?;
                if let Some(gate) = &self.gate {
                    let names = format!("SET search_path = {}", gate.path);
                    client.batch_execute(&names).doing(OPENING)?;
                }
                self.generation += 1;
                client
            }
        };
        Ok(self.client.insert(client))
    }

    /// Whether the connection ended while nobody used it. A client notices only when it reads.
    fn is_dead(&mut self) -> bool {
        let read = self.client.as_mut().map(|client| client.notifications().iter().next());
        read.is_some_and(|read| read.is_err())
    }

    /// Drops the connection. The server rolls back what was open.
    pub(super) fn forget(&mut self) {
        self.statements.clear();
        self.client = None;
    }

    /// A statement, prepared at its first use on this connection.
    pub(super) fn prepared(&mut self, sql: &str) -> Result<Statement, Prepare> {
        // First, because a new connection forgets what was prepared on the one before.
        self.client().map_err(Prepare::Connect)?;
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let prepared = self.noticing(|client| client.prepare(sql)).map_err(Prepare::Connect)?;
        let statement = prepared.map_err(Prepare::Refused)?;
        // Workers send texts of their own. Dropping a statement closes it on the server.
        if self.statements.len() >= STATEMENTS_MAX {
            self.statements.clear();
        }
        self.statements.insert(sql.to_string(), statement.clone());
        Ok(statement)
    }

    /// A statement whose parameters have these types where the server would find others. It takes
    /// the place of the one that was prepared without them.
    pub(super) fn prepared_with(
        &mut self,
        sql: &str,
        types: &[Type],
    ) -> Result<Statement, Prepare> {
        let prepared = self.noticing(|client| client.prepare_typed(sql, types));
        let statement = prepared.map_err(Prepare::Connect)?.map_err(Prepare::Refused)?;
        self.statements.insert(sql.to_string(), statement.clone());
        Ok(statement)
    }

    /// Forgets what was prepared, because a table was changed.
    pub(super) fn forget_statements(&mut self) {
        self.statements.clear();
    }

    /// One of the engine's own statements, as the server prepared it.
    pub(super) fn statement(
        &mut self,
        doing: &'static str,
        sql: &str,
    ) -> Result<Statement, StoreError> {
        self.prepared(sql).map_err(|error| error.doing(doing))
    }

    /// A number that this session gives once.
    pub(super) fn next_number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// A statement that was prepared on this connection before.
    pub(super) fn already_prepared(&self, sql: &str) -> Option<Statement> {
        self.statements.get(sql).cloned()
    }

    /// Rows of one of the engine's own statements. `doing` completes "could not …".
    pub(super) fn query(
        &mut self,
        doing: &'static str,
        sql: &str,
        params: Params<'_>,
    ) -> Result<Vec<Row>, StoreError> {
        let gate = self.gate.clone();
        match gate.as_ref().and_then(|gate| gate.call(sql, params)) {
            Some((call, params)) => self.rows(doing, &call.text, &params),
            None => self.rows(doing, sql, params),
        }
    }

    fn rows(
        &mut self,
        doing: &'static str,
        sql: &str,
        params: Params<'_>,
    ) -> Result<Vec<Row>, StoreError> {
        let statement = self.statement(doing, sql)?;
        self.noticing(|client| client.query(&statement, params))?.doing(doing)
    }

    /// The first row, if there is one.
    pub(super) fn first(
        &mut self,
        doing: &'static str,
        sql: &str,
        params: Params<'_>,
    ) -> Result<Option<Row>, StoreError> {
        Ok(self.query(doing, sql, params)?.into_iter().next())
    }

    /// How many rows one of the engine's own statements changed.
    pub(super) fn execute(
        &mut self,
        doing: &'static str,
        sql: &str,
        params: Params<'_>,
    ) -> Result<u64, StoreError> {
        let gate = self.gate.clone();
        if let Some((call, params)) = gate.as_ref().and_then(|gate| gate.call(sql, params)) {
            let rows = self.rows(doing, &call.text, &params)?;
            let changed = rows.first().filter(|_| !call.returns_rows);
            return Ok(changed.map_or(rows.len() as u64, |row| row.get::<_, i64>(0).unsigned_abs()));
        }
        let statement = self.statement(doing, sql)?;
        self.noticing(|client| client.execute(&statement, params))?.doing(doing)
    }

    /// Statements without parameters, in one round trip.
    pub(super) fn batch(&mut self, doing: &'static str, sql: &str) -> Result<(), StoreError> {
        self.noticing(|client| client.batch_execute(sql))?.doing(doing)
    }

    /// Does this with the connection, and drops the connection if it is found to be lost.
    pub(super) fn noticing<T>(
        &mut self,
        work: impl FnOnce(&mut Client) -> Result<T, Error>,
    ) -> Result<Result<T, Error>, StoreError> {
        let done = work(self.client()?);
        if done.as_ref().is_err_and(is_lost) {
            self.forget();
        }
        Ok(done)
    }

    /// Does this in one transaction, which is rolled back when it fails.
    pub(super) fn transaction<T>(
        &mut self,
        doing: &'static str,
        work: impl FnOnce(&mut Self) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.begin(doing, "BEGIN")?;
        match work(self) {
            Ok(done) => self.end(doing, "COMMIT").map(|()| done),
            Err(error) => {
                self.roll_back();
                Err(error)
            }
        }
    }

    /// Begins a transaction by this statement. Until it ends, no other connection is made.
    pub(super) fn begin(&mut self, doing: &'static str, sql: &str) -> Result<(), StoreError> {
        // A panic may have left one open.
        if self.in_transaction {
            self.roll_back();
        }
        let begun = self.batch(doing, sql);
        self.in_transaction = true;
        if begun.is_err() {
            // Of several statements the first may have gone well.
            self.roll_back();
        }
        begun
    }

    /// Ends the transaction by this statement.
    pub(super) fn end(&mut self, doing: &'static str, sql: &str) -> Result<(), StoreError> {
        let ended = self.batch(doing, sql);
        self.in_transaction = false;
        ended
    }

    /// Rolls the open transaction back. Where that fails the connection is dropped, and the server
    /// does it.
    pub(super) fn roll_back(&mut self) {
        if self.client.is_some() && self.end("roll back", "ROLLBACK").is_err() {
            self.forget();
        }
        self.in_transaction = false;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // A client says goodbye to the server when it is dropped, and may not do so where async code
        // runs.
        if let Some(client) = self.client.take() {
            let goodbye = std::thread::Builder::new().spawn(move || drop(client));
            drop(goodbye.map(std::thread::JoinHandle::join));
        }
    }
}

fn lost() -> StoreError {
    unusable("go on with the transaction", "the connection to the server was lost")
}

/// Why a statement could not be prepared.
pub(super) enum Prepare {
    Connect(StoreError),
    Refused(Error),
}

impl Prepare {
    fn doing(self, doing: &'static str) -> StoreError {
        match self {
            Self::Connect(error) => error,
            Self::Refused(error) => super::failure::store_error(doing, &error),
        }
    }
}

/// Whether the server and the database are of use.
fn check(client: &mut Client, only_reads: bool) -> Result<(), StoreError> {
    let row = client
        .query_one(
            "SELECT current_setting('server_version_num')::int4, current_setting('server_version'), \
             pg_encoding_to_char(encoding)::text, pg_is_in_recovery(), current_setting('transaction_read_only') \
             FROM pg_database WHERE datname = current_database()",
            &[],
        )
        .doing(OPENING)?;
    let (number, version): (i32, String) = (row.get(0), row.get(1));
    let (encoding, recovers, read_only): (String, bool, String) =
        (row.get(2), row.get(3), row.get(4));
    if number < OLDEST {
        return Err(unusable(
            OPENING,
            format!("the server is PostgreSQL {version}, and Verger needs 15 or newer"),
        ));
    }
    if encoding != "UTF8" {
        return Err(unusable(
            OPENING,
            format!("the database has the encoding {encoding}: make one with ENCODING 'UTF8'"),
        ));
    }
    if !only_reads && (recovers || read_only == "on") {
        return Err(unusable(
            OPENING,
            "the server is a standby or read-only: connect to the primary, by `target_session_attrs=read-write` where several hosts are given",
        ));
    }
    // The engine's own statements need the same plan whatever their values. A worker's may not.
    client
        .batch_execute(
            "SET TIME ZONE 'UTC'; SET standard_conforming_strings = on; SET client_min_messages = warning; \
             SET default_transaction_isolation = 'read committed'; SET idle_in_transaction_session_timeout = 0; \
             SET plan_cache_mode = force_generic_plan",
        )
        .doing(OPENING)
}
