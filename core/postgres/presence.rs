//! How nodes know of each other: each holds an advisory lock as long as its session lives.
//!
//! A job names the node that holds it. If nobody holds the lock of that node any more, its process
//! is gone, and the job is taken back at once and not when its lease ends.

use std::sync::mpsc::channel;
use std::time::Duration;

use super::failure::{Doing as _, unusable};
use super::session::Session;
use crate::store::StoreError;

/// The class of the advisory locks of nodes. The second number of a lock is the node's.
const CLASS: i32 = 0x5665_7267;

/// The channel on which nodes tell each other that jobs wait.
pub(super) const CHANNEL: &str = "verger";

const APPEARING: &str = "take the lock of this node";

/// The nodes whose sessions live.
pub(super) const ALIVE: &str = "SELECT objid::bigint FROM pg_locks WHERE locktype = 'advisory' AND classid = 1449488999::oid AND objsubid = 2 \
     AND granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

/// The session that stands for a node, and the number of that node.
pub(super) struct Presence {
    session: Session,
    /// The connection that holds the lock, and the number.
    held: Option<(u64, i64)>,
    /// The connection that listens.
    listens: Option<u64>,
}

impl Presence {
    pub(super) fn new(session: Session) -> Self {
        Self { session, held: None, listens: None }
    }

    /// Connects if there is no connection. The node has another number then, because its jobs may
    /// have been taken back meanwhile. Returns the number.
    pub(super) fn appear(&mut self) -> Result<i64, StoreError> {
        if self.session.is_connected() {
            // That a connection is lost shows when it is used, and not before.
            let _ = self.session.batch(APPEARING, "");
        }
        self.session.client()?;
        match self.held {
            Some((generation, node)) if generation == self.session.generation() => Ok(node),
            _ => {
                let sql = "WITH node AS MATERIALIZED (SELECT nextval('verger.nodes')::int4 AS number) \
                     SELECT number::bigint, pg_try_advisory_lock($1, number) FROM node";
                let row = self.session.first(APPEARING, sql, &[&CLASS])?;
                let Some((node, true)) = row.map(|row| (row.get(0), row.get(1))) else {
                    return Err(unusable(APPEARING, "another session holds it"));
                };
                self.held = Some((self.session.generation(), node));
                Ok(node)
            }
        }
    }

    /// Hears from now on that jobs wait, for one that takes the notifications.
    pub(super) fn listen(&mut self) -> Result<(), StoreError> {
        let connection = Some(self.session.generation());
        if self.listens != connection {
            self.session.batch(APPEARING, &format!("LISTEN {CHANNEL}"))?;
            self.listens = connection;
        }
        Ok(())
    }

    /// Whether the node is still what others see it as.
    pub(super) fn is_there(&self) -> bool {
        let generation = self.held.map(|(generation, _)| generation);
        generation == Some(self.session.generation()) && self.session.is_connected()
    }

    pub(super) fn session(&mut self) -> &mut Session {
        &mut self.session
    }
}

/// How long a second connection may take to answer, once there is a first one.
const SECOND_ANSWERS_WITHIN: Duration = Duration::from_secs(5);

const LOOKING: &str = "open the database";

/// Refuses a pooler that gives each transaction another session: neither the lock of a node nor a
/// prepared statement would stay where it is. One that pools whole sessions is as good as none.
pub(super) fn refuse_transaction_pooler(
    one: &mut Session,
    mut other: Session,
) -> Result<(), StoreError> {
    // While the one holds its session, a pooler must give the other a second one; and afterwards
    // the first, which was used last.
    one.begin(LOOKING, "BEGIN")?;
    let held = pid(one);
    let ((go_on, may_go_on), (tell, told)) = (channel::<()>(), channel());
    // On a thread of its own, because a pool that is too small lets it wait for minutes.
    let asking = std::thread::Builder::new().name("verger-open".to_string()).spawn(move || {
        let first = pid(&mut other);
        if tell.send(first).is_ok() && may_go_on.recv().is_ok() {
            let second = other.begin(LOOKING, "BEGIN").and_then(|()| pid(&mut other));
            let _ = other.end(LOOKING, "COMMIT");
            let _ = tell.send(second);
        }
    });
    let answer = || match told.recv_timeout(SECOND_ANSWERS_WITHIN) {
        Ok(answer) => answer,
        Err(_) => Err(unusable(
            LOOKING,
            "there is no second connection: a pool between Verger and the server is too small, or gives each transaction another session; connect to the server itself, or to a larger pool in session mode",
        )),
    };
    let first = answer();
    one.end(LOOKING, "COMMIT")?;
    asking.map_err(|error| unusable(LOOKING, format!("there is no thread to look: {error}")))?;
    held?;
    let first = first?;
    // If this fails, the thread is gone and has told why.
    let _ = go_on.send(());
    if first == answer()? {
        return Ok(());
    }
    Err(unusable(
        LOOKING,
        "between Verger and the server stands a pooler that gives each transaction another session: connect to the server itself, or to a pool in session mode",
    ))
}

/// The number of the session on the server.
fn pid(session: &mut Session) -> Result<Option<String>, StoreError> {
    // The simple protocol, because such a pooler may lose a prepared statement.
    let answer = session.noticing(|client| client.simple_query("SELECT pg_backend_pid()::text"))?;
    Ok(answer.doing(LOOKING)?.iter().find_map(|message| match message {
        postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_string),
        _ => None,
    }))
}
