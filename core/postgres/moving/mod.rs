//! Moving the books of a SQLite file into a PostgreSQL database, once.

mod app_rows;
mod app_table;
mod outcome;
mod tables;
mod written;

use std::path::PathBuf;
use std::sync::Arc;

use postgres::types::ToSql;
use verger_worker::Value;

use self::app_table::AppTable;
pub use self::outcome::{MoveError, Moved};
use self::tables::{TABLES, Table};
use super::address::Address;
use super::migrate::migrate;
use super::random::random;
use super::session::Session;
use super::values::Param;
use super::verger::handed_over;
use super::{audit, state, transition};
use crate::clock::{Clock as _, SystemClock};
use crate::error::OpenError;
use crate::store::{
    BookConnection, Exclusive, Location, Mark, StoreContext as _, StoreError, begin_move, end_move,
    give_move_up, mark_of_move, prove_exclusive, value_of,
};

const MOVING: &str = "move the rows";
const READING: &str = "read the file";

/// Moves jobs, schedules, ledger, audit log, logs and what workers keep from a SQLite file into a
/// PostgreSQL database, with their ids. The app's own tables come along if that is asked for.
///
/// It is done once: afterwards the file says at every open where its rows went
/// ([`OpenError::Moved`]), and can be opened to be read only. If it is killed midway, a second call
/// finds out how far it came.
///
/// ```no_run
/// let moved = verger::postgres::Move::new("app.db", "postgres://app@db.internal/app").run()?;
/// println!("{} jobs, {} rows of the audit log", moved.jobs, moved.audit_rows);
/// # Ok::<(), verger::postgres::MoveError>(())
/// ```
#[derive(Debug)]
#[must_use = "nothing is moved until `run` is called"]
pub struct Move {
    from: PathBuf,
    to: String,
    is_dry: bool,
    tables: Tables,
}

/// Which of the app's tables are moved.
#[derive(Debug, Clone, Default)]
enum Tables {
    #[default]
    None,
    Named(Vec<String>),
    All,
}

impl Move {
    /// From this file, to the database at this address.
    pub fn new(from: impl Into<PathBuf>, to: impl Into<String>) -> Self {
        Self { from: from.into(), to: to.into(), is_dry: false, tables: Tables::None }
    }

    /// Moves these tables of the app's too, with their rows, keys, UNIQUEs, NOT NULLs, plain
    /// indexes, and defaults that are numbers or texts. A column becomes `bigint`, `double
    /// precision`, `text COLLATE "C"` or `bytea`, as its values are; an INTEGER PRIMARY KEY goes on
    /// counting. Names get small letters, as the server reads one that is not quoted. A value of
    /// another kind than its column's refuses the whole move, with its row. What cannot be told
    /// exactly is not made, and named in [`Moved::not_made`].
    pub fn tables(mut self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.tables = Tables::Named(names.into_iter().map(Into::into).collect());
        self
    }

    /// Moves all tables of the app's, as [`tables`](Self::tables) does. Views and virtual tables
    /// stay.
    pub fn all_tables(mut self) -> Self {
        self.tables = Tables::All;
        self
    }

    /// Does everything and then undoes it. The tables that the other database lacks are made.
    pub fn dry_run(mut self) -> Self {
        self.is_dry = true;
        self
    }

    /// Moves the rows. The file must be in nobody's use.
    ///
    /// # Errors
    /// [`MoveError`], after which both sides are as they were.
    pub fn run(self) -> Result<Moved, MoveError> {
        handed_over(|| self.run_here())
    }

    fn run_here(self) -> Result<Moved, MoveError> {
        // This takes back what a process that died was performing, and checks the file. The app is not
        // here to say which schedules it has.
        let verger = crate::Verger::builder(&self.from)
            .without_built_ins()
            .keep_schedules()
            .for_a_move()
            .open()?;
        verger.verify_audit()?;
        drop(verger);
        let file = self.alone()?;
        let mut session = Session::new(Arc::new(Address::of(&self.to, None)?));
        migrate(&mut session, SystemClock.now())?;
        let mark = match self.is_dry {
            true => None,
            false => mark_of_move(file.raw()).doing(READING)?,
        };
        // If that cannot be found out, the file stays as it is.
        if let Some(mark) = &mark
            && self.is_there(&mut session, mark)?
        {
            end_move(file.raw()).doing(MOVING)?;
            return Ok(Moved { was_there: true, ..count(&file)? });
        }
        let name = match (self.is_dry, mark) {
            (true, _) => Vec::new(),
            (false, Some(mark)) => mark.name,
            (false, None) => {
                let name = random(MOVING, 16)?;
                begin_move(file.raw(), &name, &without_password(&self.to)).doing(MOVING)?;
                name
            }
        };
        let begun = session.begin(MOVING, "BEGIN ISOLATION LEVEL REPEATABLE READ");
        let copied = begun.map_err(Into::into).and_then(|()| {
            // Before anything is sent, and where a refusal gives the move up.
            let app = self.app_tables(file.raw())?;
            let mut moved = copy(&mut session, &file, &name)?;
            for table in &app {
                let rows = app_rows::copy(&mut session, file.raw(), table)?;
                moved.tables.push((table.name.clone(), rows));
                moved.not_made.extend(table.left.iter().cloned());
            }
            if let Tables::All = self.tables {
                moved.not_made.extend(app_table::others(file.raw())?);
            }
            Ok(moved)
        });
        let moved = match copied {
            Ok(moved) if !self.is_dry => moved,
            other => {
                session.roll_back();
                if !self.is_dry {
                    give_move_up(file.raw()).doing(MOVING)?;
                }
                return other;
            }
        };
        // If the answer is lost, the next call finds out what became of it. Until then the file is
        // not opened.
        session.end(MOVING, "COMMIT").map_err(MoveError::Unfinished)?;
        end_move(file.raw()).doing(MOVING)?;
        Ok(moved)
    }

    /// Whether a move that was begun before came to its end, in this database.
    fn is_there(&self, session: &mut Session, mark: &Mark) -> Result<bool, MoveError> {
        if mark.target != without_password(&self.to) {
            return Err(MoveError::Elsewhere { to: mark.target.clone() });
        }
        let sql = "SELECT 1 FROM verger.moved WHERE name = $1";
        Ok(session.first(MOVING, sql, &[&mark.name])?.is_some())
    }

    /// The app's tables that are to be moved.
    fn app_tables(&self, file: &rusqlite::Connection) -> Result<Vec<AppTable>, MoveError> {
        let known = app_table::app_tables(file)?;
        let names = match &self.tables {
            Tables::None => Vec::new(),
            Tables::All => known,
            Tables::Named(names) => {
                let find = |asked: &String| {
                    let found = known.iter().find(|known| known.eq_ignore_ascii_case(asked));
                    found.cloned().ok_or_else(|| MoveError::Table {
                        table: asked.clone(),
                        reason: "the app has no table of that name".to_string(),
                    })
                };
                names.iter().map(find).collect::<Result<_, _>>()?
            }
        };
        let mut names = names;
        names.sort();
        names.dedup();
        names.iter().map(|name| AppTable::read(file, name)).collect()
    }

    /// The file, while nobody else has it open.
    fn alone(&self) -> Result<BookConnection, MoveError> {
        let location = Location::of_file(&self.from)
            .resolve()
            .map_err(|reason| OpenError::NotAFile { path: self.from.clone(), reason })?;
        match prove_exclusive(&location).doing(READING)? {
            Exclusive::Proved(file) => Ok(file),
            Exclusive::InUse | Exclusive::Unknown => {
                Err(MoveError::InUse { path: self.from.clone() })
            }
        }
    }
}

/// The address as the file keeps it.
fn without_password(url: &str) -> String {
    let Some((before, after)) = url.split_once("://") else {
        let is_shown = |word: &&str| {
            ["host=", "port=", "user=", "dbname="].iter().any(|key| word.starts_with(key))
        };
        return url.split_whitespace().filter(is_shown).collect::<Vec<_>>().join(" ");
    };
    match after.split_once('@') {
        Some((user, host)) => {
            let user = user.split(':').next().unwrap_or_default();
            format!("{before}://{user}@{}", host.split('?').next().unwrap_or_default())
        }
        None => format!("{before}://{}", after.split('?').next().unwrap_or_default()),
    }
}

fn copy(session: &mut Session, file: &BookConnection, name: &[u8]) -> Result<Moved, MoveError> {
    for table in ["jobs", "schedules", "fires", "audit", "state"] {
        let sql = format!("SELECT EXISTS (SELECT 1 FROM verger.{table})");
        if session.first(MOVING, &sql, &[])?.is_some_and(|row| row.get(0)) {
            return Err(MoveError::NotEmpty { table });
        }
    }
    // Lanes without a row are there once a node was open.
    session.batch(
        MOVING,
        "ALTER TABLE verger.audit_lanes DISABLE TRIGGER USER; DELETE FROM verger.audit_lanes; \
         ALTER TABLE verger.audit_lanes ENABLE TRIGGER USER; DELETE FROM verger.queues",
    )?;
    for table in TABLES {
        copy_table(session, file, table)?;
    }
    copy_state(session, file)?;
    session.batch(
        MOVING,
        "SELECT setval(pg_get_serial_sequence('verger.jobs', 'id'), greatest(max(id), 1)) FROM verger.jobs; \
         SELECT setval(pg_get_serial_sequence('verger.audit', 'id'), greatest(max(id), 1)) FROM verger.audit",
    )?;
    audit::verify_lanes(session)?;
    let now = SystemClock.now().as_millis();
    session.execute(
        MOVING,
        "INSERT INTO verger.moved (name, moved_at) VALUES ($1, $2)",
        &[&name, &now],
    )?;
    let moved = count(file)?;
    for (table, rows) in [("jobs", moved.jobs), ("fires", moved.fires), ("audit", moved.audit_rows)]
    {
        let sql = format!("SELECT count(*) FROM verger.{table}");
        let found = session.first(MOVING, &sql, &[])?.map_or(0, |row| row.get::<_, i64>(0));
        if found.unsigned_abs() != rows {
            let reason = format!("{found} of {rows} rows came over");
            return Err(MoveError::Row {
                table: table.to_string(),
                row: "each".to_string(),
                reason,
            });
        }
    }
    Ok(moved)
}

/// How much there is in the file.
fn count(file: &BookConnection) -> Result<Moved, StoreError> {
    let of = |table: &str| -> Result<u64, StoreError> {
        let sql = format!("SELECT count(*) FROM verger_{table}");
        let rows = file.raw().query_row(&sql, [], |row| row.get::<_, i64>(0)).doing(READING)?;
        Ok(rows.unsigned_abs())
    };
    let mut left = Vec::new();
    for table in ["settings", "plugins", "grants", "events"] {
        let rows = of(table)?;
        if rows > 0 {
            left.push((table.to_string(), rows));
        }
    }
    Ok(Moved {
        jobs: of("jobs")?,
        schedules: of("schedules")?,
        fires: of("fires")?,
        audit_rows: of("audit")?,
        state: of("state")?,
        was_there: false,
        left,
        ..Moved::default()
    })
}

fn copy_table(
    session: &mut Session,
    file: &BookConnection,
    table: &Table,
) -> Result<(), MoveError> {
    let width = table.columns.split(',').count();
    let places: Vec<String> = (1..=width).map(|place| format!("${place}")).collect();
    let insert = format!(
        "INSERT INTO verger.{} ({}) OVERRIDING SYSTEM VALUE VALUES ({})",
        table.name,
        table.columns,
        places.join(", ")
    );
    let mut read = file.raw().prepare(table.query).doing(READING)?;
    let mut rows = read.query([]).doing(READING)?;
    while let Some(row) = rows.next().doing(READING)? {
        let values: Result<Vec<Value>, _> =
            (0..width).map(|place| row.get_ref(place).map(value_of)).collect();
        let mut values = values.doing(READING)?;
        for place in table.jsonb {
            without_nul(&mut values[*place]);
        }
        insert_row(session, table.name, &insert, &values)?;
    }
    Ok(())
}

/// The type `jsonb` knows no character of the number 0. In JSON that is always escaped.
fn without_nul(value: &mut Value) {
    if let Value::Text(text) = value {
        *text = transition::json_without_nul(text);
    }
}

fn insert_row(
    session: &mut Session,
    table: &'static str,
    insert: &str,
    values: &[Value],
) -> Result<(), MoveError> {
    let params: Vec<Param<'_>> = values.iter().map(Param).collect();
    let params: Vec<&(dyn ToSql + Sync)> =
        params.iter().map(|param| param as &(dyn ToSql + Sync)).collect();
    session.execute(MOVING, insert, &params).map(drop).map_err(|error| {
        let row = match values.first() {
            Some(Value::Integer(number)) => number.to_string(),
            Some(Value::Text(text)) => text.clone(),
            _ => "?".to_string(),
        };
        MoveError::Row { table: table.to_string(), row, reason: error.to_string() }
    })
}

fn copy_state(session: &mut Session, file: &BookConnection) -> Result<(), MoveError> {
    let sql = "SELECT worker, organization_id, key, value, updated_at FROM verger_state ORDER BY worker, organization_id, key";
    let mut read = file.raw().prepare(sql).doing(READING)?;
    let mut rows = read.query([]).doing(READING)?;
    let insert = "INSERT INTO verger.state (worker, organization_id, key, kind, value, updated_at) VALUES ($1, $2, $3, $4, $5, $6)";
    while let Some(row) = rows.next().doing(READING)? {
        let value = |place: usize| row.get_ref(place).map(value_of).doing(READING);
        let Some((kind, bytes)) = state::stored(&value(3)?) else { continue };
        let kept = [
            value(0)?,
            value(1)?,
            value(2)?,
            Value::Text(kind.to_string()),
            Value::Blob(bytes),
            value(4)?,
        ];
        insert_row(session, "state", insert, &kept)?;
    }
    Ok(())
}
