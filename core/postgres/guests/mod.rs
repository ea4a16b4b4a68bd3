//! Components on this store: each has a login role of its own, which the server confines.
//!
//! A component's statements are sent on a session that its role logged in to. So what it may touch
//! is what that role was granted, and for a job of a tenant what the tenant's policies show. The
//! engine's own part of the same transaction goes through functions that ask for a secret of the
//! session (`functions.rs`). Before a statement is sent, two things are made sure of: the server's grammar takes it as one
//! statement on rows (`run/statement.rs`), and by the server's parse tree it calls only functions
//! that compute (`tree.rs`), because nobody can withdraw from a role what the server gives to all.

mod check;
mod expected;
mod functions;
mod grants;
mod relation;
mod roles;
mod tree;

use std::sync::{Arc, Mutex};

use postgres::types::{ToSql, Type};
use sha2::{Digest, Sha256};
use verger_worker::Scope;

use super::address::Address;
use super::random::random;
use super::run::Connection;
use super::session::{Params, Session};
use crate::mutex::lock;
use crate::run::Task;
use crate::store::StoreError;

pub(super) use check::check;
pub(super) use functions::{Call, ENTER, Functions};
pub(super) use grants::grants;
pub(super) use roles::{Roles, Wanted, quoted};
pub(super) use tree::{Statement as TreeStatement, Tree};

const REGISTERING: &str = "let the session of a worker write what the engine writes";

/// How many bytes the secret of a session has.
const SECRET_BYTES: usize = 32;

/// How the engine's own statements are sent on the session of a role that may touch nothing of
/// Verger's.
#[derive(Clone)]
pub(super) struct Gate {
    functions: Arc<Functions>,
    secret: Arc<Vec<u8>>,
    /// Where the names of a guest's statements are looked for.
    pub(super) path: Arc<str>,
}

impl Gate {
    /// The call that stands for a statement of the engine's, with its parameters. `None` for one
    /// that any role may send.
    pub(super) fn call<'a>(
        &'a self,
        sql: &str,
        params: Params<'a>,
    ) -> Option<(&'a Call, Vec<&'a (dyn ToSql + Sync)>)> {
        let call = self.functions.of(sql)?;
        let mut with_secret = params.to_vec();
        with_secret.push(&*self.secret);
        Some((call, with_secret))
    }
}

/// Of a connection that has the role of a worker.
pub(super) struct Guest {
    role: String,
    is_confined: bool,
    /// The worker's manifest says that its SQL is for both stores.
    knows_both: bool,
    gate: Gate,
    /// The connection whose secret the server knows.
    registered: Option<u64>,
}

/// Whose connection is asked for.
#[derive(Clone, Copy)]
pub(super) struct Component<'w> {
    pub(super) worker: &'w str,
    pub(super) is_confined: bool,
    pub(super) knows_both: bool,
}

/// What the components of a node need.
pub(super) struct Guests {
    functions: Arc<Functions>,
    roles: Roles,
    /// Where the engine's own session looks for names.
    path: String,
    tree: Tree,
    most_idle: usize,
    idle: Mutex<Vec<Connection>>,
}

impl Guests {
    /// Makes what is missing in the database.
    pub(super) fn open(
        session: &mut Session,
        address: Arc<Address>,
        roles: Roles,
        most_idle: usize,
    ) -> Result<Self, StoreError> {
        let functions = Arc::new(functions::install(session)?);
        let path = path(session)?;
        // What sessions that are gone left behind.
        let gone = "DELETE FROM verger.guests WHERE pid NOT IN (SELECT pid FROM pg_stat_activity)";
        session.execute(REGISTERING, gone, &[])?;
        let tree = Tree::new(Session::new(address), &random(REGISTERING, 8)?);
        Ok(Self { functions, roles, path, tree, most_idle, idle: Mutex::default() })
    }

    /// A connection with the role of a worker, or with that for jobs of a tenant. `engine` is a
    /// session of the engine's own, in no transaction.
    pub(super) fn connection(
        &self,
        address: &Address,
        component: Component<'_>,
        engine: &mut Session,
    ) -> Result<Connection, StoreError> {
        let role = self.roles.name(component.worker, component.is_confined);
        let known = {
            let mut idle = lock(&self.idle);
            let place = idle.iter().position(|connection| {
                connection.guest.as_ref().is_some_and(|guest| guest.role == role)
            });
            place.map(|place| idle.swap_remove(place))
        };
        let mut connection = match known {
            Some(connection) => connection,
            None => self.new_connection(address, role, component)?,
        };
        register(&mut connection, engine)?;
        Ok(connection)
    }

    fn new_connection(
        &self,
        address: &Address,
        role: String,
        Component { is_confined, knows_both, .. }: Component<'_>,
    ) -> Result<Connection, StoreError> {
        let secret = random(REGISTERING, SECRET_BYTES)?;
        // The views of a tenant stand before the tables, and what is temporary behind everything.
        let views = if is_confined { format!("{}, ", roles::quoted(&role)) } else { String::new() };
        let path = format!("{views}{}verger_sql, pg_temp", self.path).into();
        let gate = Gate { functions: Arc::clone(&self.functions), secret: Arc::new(secret), path };
        let address = address.of_role(&role, &self.roles.password(&role));
        let session = Session::of_guest(Arc::new(address), gate.clone());
        Ok(Connection::of_guest(
            session,
            Guest { role, is_confined, knows_both, gate, registered: None },
        ))
    }

    /// Keeps a connection for the next job of its role, if it is as a new one.
    pub(super) fn give_back(&self, connection: Connection) {
        if !connection.session.is_at_rest() {
            return;
        }
        let mut idle = lock(&self.idle);
        let closed = (idle.len() >= self.most_idle).then(|| idle.remove(0));
        idle.push(connection);
        drop(idle);
        // A server that says nothing may hold this up, and only this thread.
        drop(closed);
    }

    /// Closes the connections that nobody uses.
    pub(super) fn forget_idle(&self) {
        let idle = std::mem::take(&mut *lock(&self.idle));
        drop(idle);
    }

    /// Why a guest may not send a statement.
    pub(super) fn refuses(
        &self,
        guest: &Guest,
        sql: &str,
        params: &[Type],
    ) -> Result<Option<String>, StoreError> {
        let (path, knows_both) = (&*guest.gate.path, guest.knows_both);
        self.tree.verdict(&tree::Statement { sql, params, path, knows_both })
    }
}

impl Guest {
    /// The tenant whose rows a job may see: none for a role that is not confined.
    pub(super) fn tenant<'t>(&self, task: &'t Task) -> Option<&'t str> {
        let tenant = task.scope.as_ref().and_then(Scope::organization_id);
        tenant.filter(|_| self.is_confined)
    }
}

/// Where this session looks for names, with a comma behind, if there is any such place.
pub(super) fn path(session: &mut Session) -> Result<String, StoreError> {
    let sql = "SELECT string_agg(quote_ident(name), ', ' ORDER BY place) FROM unnest(current_schemas(false)) WITH ORDINALITY AS path (name, place)";
    let row = session.first(REGISTERING, sql, &[])?;
    let path = row.and_then(|row| row.get::<_, Option<String>>(0));
    Ok(path.map(|path| format!("{path}, ")).unwrap_or_default())
}

/// Tells the server the secret of a session, if it is a new one.
fn register(connection: &mut Connection, engine: &mut Session) -> Result<(), StoreError> {
    let Connection { session, guest: Some(guest), .. } = connection else { return Ok(()) };
    session.connect()?;
    let generation = Some(session.generation());
    if guest.registered == generation {
        return Ok(());
    }
    let row = session.first(REGISTERING, "SELECT pg_backend_pid()", &[])?;
    let pid: i32 = row.map_or(0, |row| row.get(0));
    let hash = Sha256::digest(&*guest.gate.secret);
    engine.execute(
        REGISTERING,
        "INSERT INTO verger.guests (pid, secret) VALUES ($1, $2) \
         ON CONFLICT (pid) DO UPDATE SET secret = excluded.secret, xid = NULL, organization_id = NULL",
        &[&pid, &hash.as_slice()],
    )?;
    guest.registered = generation;
    Ok(())
}
