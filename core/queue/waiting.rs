//! Which queues, priorities and workers have jobs waiting. They are found by jumping through the
//! index `verger_jobs_due` from one to the next, so a million waiting jobs of one kind cost
//! nothing.
//!
//! The plus before a parameter hides its value from the planner. Otherwise SQLite would prepare the
//! statement anew whenever the value changed.

use std::sync::LazyLock;

use rusqlite::{Connection, OptionalExtension, Params, Row};

use crate::store::RawText;
use crate::time::Timestamp;

/// The states a job can be claimed from. Word for word the condition of the index.
pub(super) const WAITING: &str =
    "(state = 'scheduled' OR state = 'available' OR state = 'retryable')";

/// The newest version of its args that the worker of that name takes in this process. `None` when
/// the worker is not here. Jobs of such workers, and jobs for a newer version, are parked here.
pub(crate) type HasWorker<'a> = &'a dyn Fn(&str) -> Option<u32>;

/// Whether the worker of that name is here, in a version that knows these args.
pub(super) fn is_here(has_worker: HasWorker<'_>, worker: &str, args_version: i64) -> bool {
    has_worker(worker).is_some_and(|newest| args_version <= newest.into())
}

/// A queue, a priority in it, a worker with jobs waiting there, and the version of their args.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(super) queue: RawText,
    pub(super) priority: i64,
    pub(super) worker: RawText,
    pub(super) args_version: i64,
}

impl Kind {
    /// Its queue and its worker, if both can be read.
    pub(super) fn names(&self) -> Option<(&str, &str)> {
        self.queue.as_str().zip(self.worker.as_str())
    }
}

/// What a visitor wants to see next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The next version or worker, of any priority and queue.
    Kind,
    /// The next queue.
    Queue,
    /// Nothing.
    Stop,
}

/// Visits the kinds of jobs that wait, in the order of queue, priority, worker and version.
pub(super) fn each_kind(
    connection: &Connection,
    visit: impl FnMut(&Kind) -> rusqlite::Result<Next>,
) -> rusqlite::Result<()> {
    each_kind_from(connection, None, visit)
}

/// As [`each_kind`], in one queue.
pub(super) fn each_kind_in(
    connection: &Connection,
    queue: &str,
    mut visit: impl FnMut(&Kind) -> rusqlite::Result<Next>,
) -> rusqlite::Result<()> {
    each_kind_from(connection, Some(queue), |kind| match kind.queue.as_str() == Some(queue) {
        true => visit(kind),
        false => Ok(Next::Stop),
    })
}

/// Statements that find the first kind, and the next one of each sort, by one seek each.
struct Seeks {
    first: String,
    from_queue: String,
    next_queue: String,
    next_priority: String,
    next_worker: String,
}

static SEEKS: LazyLock<Seeks> = LazyLock::new(|| {
    let sql = |more: &str, order: &str| {
        format!(
            "SELECT queue, priority, worker, args_version FROM verger_jobs WHERE {WAITING} {more} \
             ORDER BY {order} LIMIT 1"
        )
    };
    Seeks {
        first: sql("", "queue, priority, worker, args_version"),
        from_queue: sql("AND queue = +?1", "priority, worker, args_version"),
        next_queue: sql("AND queue > +?1", "queue, priority, worker, args_version"),
        next_priority: sql("AND queue = +?1 AND priority > +?2", "priority, worker, args_version"),
        // Not `> (+?3, +?4)`, because SQLite seeks to the first row that is equal in the leading
        // columns, and reads on from there.
        next_worker: sql(
            "AND queue = +?1 AND priority = +?2 AND (worker, args_version) >= (+?3, ?4 + 1)",
            "worker, args_version",
        ),
    }
});

static FIRST_DUE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT due_at FROM verger_jobs WHERE {WAITING} AND queue = +?1 AND priority = +?2 AND worker = +?3 \
         AND args_version = +?4 ORDER BY due_at LIMIT 1"
    )
});

fn each_kind_from(
    connection: &Connection,
    queue: Option<&str>,
    mut visit: impl FnMut(&Kind) -> rusqlite::Result<Next>,
) -> rusqlite::Result<()> {
    let seeks = &*SEEKS;
    let mut kind = match queue {
        Some(queue) => one(connection, &seeks.from_queue, [queue])?,
        None => one(connection, &seeks.first, [])?,
    };
    while let Some(at) = kind {
        let next = visit(&at)?;
        if next == Next::Stop {
            break;
        }
        let Kind { queue, priority, worker, args_version } = &at;
        kind = None;
        if next == Next::Kind {
            kind = one(connection, &seeks.next_worker, (queue, priority, worker, args_version))?;
            if kind.is_none() {
                kind = one(connection, &seeks.next_priority, (queue, priority))?;
            }
        }
        if kind.is_none() {
            kind = one(connection, &seeks.next_queue, [queue])?;
        }
    }
    Ok(())
}

fn one(connection: &Connection, sql: &str, at: impl Params) -> rusqlite::Result<Option<Kind>> {
    let kind = |row: &Row<'_>| {
        Ok(Kind {
            queue: RawText::of(row, 0)?,
            priority: row.get(1)?,
            worker: RawText::of(row, 2)?,
            args_version: row.get(3)?,
        })
    };
    connection.prepare_cached(sql)?.query_row(at, kind).optional()
}

/// When the first job of this kind is due.
pub(super) fn first_due(
    connection: &Connection,
    kind: &Kind,
) -> rusqlite::Result<Option<Timestamp>> {
    connection
        .prepare_cached(&FIRST_DUE)?
        .query_row((&kind.queue, kind.priority, &kind.worker, kind.args_version), |row| {
            Ok(Timestamp::from_millis(row.get(0)?))
        })
        .optional()
}
