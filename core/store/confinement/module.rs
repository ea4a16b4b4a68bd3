//! The functions of the virtual tables that SQLite calls. Each hands on to the type that knows.
#![allow(unsafe_code, reason = "SQLite calls them through pointers")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::null_mut;
use std::slice;
use std::sync::Arc;

use rusqlite::{Connection, ffi};

use super::inner::Failure;
use super::plan::{Op, Order, STOPS_EARLY, Term, plan};
use super::table::Direction;
use super::wall::{Cursor, Wall, Walls};
use crate::mutex::lock;

static MODULE: Module = Module(ffi::sqlite3_module {
    iVersion: 2,
    xCreate: Some(create),
    xConnect: Some(connect),
    xBestIndex: Some(best_index),
    xDisconnect: Some(disconnect),
    xDestroy: Some(disconnect),
    xOpen: Some(open),
    xClose: Some(close),
    xFilter: Some(filter),
    xNext: Some(next),
    xEof: Some(eof),
    xColumn: Some(column),
    xRowid: Some(rowid),
    xUpdate: Some(update),
    xBegin: None,
    xSync: None,
    xCommit: None,
    xRollback: None,
    xFindFunction: None,
    xRename: Some(rename),
    xSavepoint: None,
    xRelease: None,
    xRollbackTo: None,
    xShadowName: None,
    xIntegrity: None,
});

struct Module(ffi::sqlite3_module);

// SAFETY: it is a table of functions that nobody writes to.
unsafe impl Sync for Module {}

/// Registers the module under a name that no worker can know.
pub(super) fn install(
    connection: &Connection,
    name: &str,
    walls: &Arc<Walls>,
) -> rusqlite::Result<()> {
    let name = CString::new(name)?;
    let walls = Arc::into_raw(Arc::clone(walls));
    // SAFETY: SQLite gives the pointer back to `forget` once it no longer needs it, whether this
    // succeeds or not. The handle is used from the thread that holds the connection.
    let code = unsafe {
        ffi::sqlite3_create_module_v2(
            connection.handle(),
            name.as_ptr(),
            &MODULE.0,
            walls.cast_mut().cast(),
            Some(forget),
        )
    };
    match code {
        ffi::SQLITE_OK => Ok(()),
        code => Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)),
    }
}

unsafe extern "C" fn forget(walls: *mut c_void) {
    // SAFETY: it is the pointer of `install`, given back once.
    drop(unsafe { Arc::from_raw(walls.cast_const().cast::<Walls>()) });
}

/// Keeps a panic from crossing into SQLite.
fn shielded(call: impl FnOnce() -> c_int) -> c_int {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or(ffi::SQLITE_INTERNAL)
}

/// A text that SQLite frees.
fn text(text: &str) -> *mut c_char {
    let Ok(text) = CString::new(text.replace('\0', " ")) else { return null_mut() };
    // SAFETY: both are C strings.
    unsafe { ffi::sqlite3_mprintf(c"%s".as_ptr(), text.as_ptr()) }
}

/// Records why a call failed.
///
/// # Safety
/// The table is one that SQLite called with.
unsafe fn failed(table: *mut ffi::sqlite3_vtab, failure: &Failure) -> c_int {
    // SAFETY: as said; SQLite frees the message.
    unsafe {
        ffi::sqlite3_free((*table).zErrMsg.cast());
        (*table).zErrMsg = text(&failure.message);
    }
    failure.code
}

// It must differ from `connect`. If both were one function, the module itself would be a table.
unsafe extern "C" fn create(
    db: *mut ffi::sqlite3,
    walls: *mut c_void,
    argc: c_int,
    argv: *const *const c_char,
    table: *mut *mut ffi::sqlite3_vtab,
    message: *mut *mut c_char,
) -> c_int {
    // SAFETY: SQLite's own arguments.
    unsafe { connect(db, walls, argc, argv, table, message) }
}

unsafe extern "C" fn connect(
    db: *mut ffi::sqlite3,
    walls: *mut c_void,
    argc: c_int,
    argv: *const *const c_char,
    table: *mut *mut ffi::sqlite3_vtab,
    _: *mut *mut c_char,
) -> c_int {
    shielded(|| {
        // SAFETY: the pointer is that of `install`, which holds one count of its own; SQLite says
        // how many arguments there are. Option numbers are SQLite's.
        unsafe {
            let walls = walls.cast_const().cast::<Walls>();
            Arc::increment_strong_count(walls);
            let walls = Arc::from_raw(walls);
            let argv = slice::from_raw_parts(argv, usize::try_from(argc).unwrap_or_default());
            let number =
                argv.get(3).and_then(|number| CStr::from_ptr(*number).to_str().ok()?.parse().ok());
            let tables = lock(&walls.tables);
            let known = number.and_then(|number: u64| tables.get(&number).cloned());
            drop(tables);
            let Some(known) = known else { return ffi::SQLITE_INTERNAL };
            let Ok(declaration) = CString::new(known.declaration(&walls.hidden)) else {
                return ffi::SQLITE_INTERNAL;
            };
            let code = ffi::sqlite3_declare_vtab(db, declaration.as_ptr());
            if code != ffi::SQLITE_OK {
                return code;
            }
            ffi::sqlite3_vtab_config(db, ffi::SQLITE_VTAB_CONSTRAINT_SUPPORT as _, 1 as c_int);
            ffi::sqlite3_vtab_config(db, ffi::SQLITE_VTAB_INNOCUOUS as _);
            *table = Box::into_raw(Box::new(Wall::new(db, walls, known))).cast();
        }
        ffi::SQLITE_OK
    })
}

unsafe extern "C" fn disconnect(table: *mut ffi::sqlite3_vtab) -> c_int {
    // SAFETY: it was made by `connect`, and SQLite lets go of it.
    shielded(|| {
        drop(unsafe { Box::from_raw(table.cast::<Wall>()) });
        ffi::SQLITE_OK
    })
}

unsafe extern "C" fn rename(_: *mut ffi::sqlite3_vtab, _: *const c_char) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn best_index(
    table: *mut ffi::sqlite3_vtab,
    info: *mut ffi::sqlite3_index_info,
) -> c_int {
    shielded(|| {
        // SAFETY: the table is of `connect`; SQLite says how long the lists are.
        unsafe {
            let wall = &*table.cast::<Wall>();
            let asked = &mut *info;
            let (offered, usage) = match usize::try_from(asked.nConstraint) {
                Ok(count) if count > 0 => (
                    slice::from_raw_parts(asked.aConstraint, count),
                    slice::from_raw_parts_mut(asked.aConstraintUsage, count),
                ),
                _ => (&[][..], &mut [][..]),
            };
            let mut terms = Vec::new();
            let mut places = Vec::new();
            let mut used = asked.colUsed;
            for (place, offer) in offered.iter().enumerate() {
                if c_int::from(offer.op) == ffi::SQLITE_INDEX_CONSTRAINT_LIMIT {
                    used |= STOPS_EARLY;
                }
                if offer.usable == 0 {
                    continue;
                }
                let op = match c_int::from(offer.op) {
                    ffi::SQLITE_INDEX_CONSTRAINT_EQ => Op::Equal,
                    ffi::SQLITE_INDEX_CONSTRAINT_IS => Op::Is,
                    ffi::SQLITE_INDEX_CONSTRAINT_ISNULL => Op::IsNull,
                    ffi::SQLITE_INDEX_CONSTRAINT_LT => Op::Less,
                    ffi::SQLITE_INDEX_CONSTRAINT_LE => Op::LessEqual,
                    ffi::SQLITE_INDEX_CONSTRAINT_GT => Op::Greater,
                    ffi::SQLITE_INDEX_CONSTRAINT_GE => Op::GreaterEqual,
                    _ => continue,
                };
                let column = usize::try_from(offer.iColumn).ok();
                let own = match column {
                    None => "BINARY",
                    Some(column) => match wall.table.columns.get(column) {
                        Some(column) => &column.collation,
                        // The hidden key.
                        None => continue,
                    },
                };
                let number = c_int::try_from(place).unwrap_or_default();
                let collation = ffi::sqlite3_vtab_collation(info, number);
                let collates = !collation.is_null()
                    && CStr::from_ptr(collation)
                        .to_str()
                        .is_ok_and(|name| name.eq_ignore_ascii_case(own));
                let mut value = null_mut();
                let is_literal = ffi::sqlite3_vtab_rhs_value(info, number, &mut value)
                    == ffi::SQLITE_OK
                    && !value.is_null();
                terms.push(Term { column, op, is_literal, collates });
                places.push(place);
            }
            let order: Vec<Order> = match usize::try_from(asked.nOrderBy) {
                Ok(count) if count > 0 => slice::from_raw_parts(asked.aOrderBy, count)
                    .iter()
                    .map(|term| Order {
                        column: usize::try_from(term.iColumn).ok(),
                        direction: match term.desc {
                            0 => Direction::Ascending,
                            _ => Direction::Descending,
                        },
                    })
                    .collect(),
                _ => Vec::new(),
            };
            let plan = plan(&wall.table, &terms, &order, used);
            for (number, (term, is_exact)) in plan.takes.iter().enumerate() {
                if let Some(usage) = places.get(*term).and_then(|place| usage.get_mut(*place)) {
                    usage.argvIndex = c_int::try_from(number + 1).unwrap_or_default();
                    usage.omit = u8::from(*is_exact);
                }
            }
            asked.idxStr = text(&plan.query.write());
            if asked.idxStr.is_null() {
                return ffi::SQLITE_NOMEM;
            }
            asked.needToFreeIdxStr = 1;
            asked.orderByConsumed = plan.is_ordered.into();
            asked.idxFlags = if plan.is_one { ffi::SQLITE_INDEX_SCAN_UNIQUE as _ } else { 0 };
            asked.estimatedCost = plan.cost;
            asked.estimatedRows = plan.rows;
        }
        ffi::SQLITE_OK
    })
}

unsafe extern "C" fn open(
    table: *mut ffi::sqlite3_vtab,
    cursor: *mut *mut ffi::sqlite3_vtab_cursor,
) -> c_int {
    shielded(|| {
        let wall = table.cast::<Wall>().cast_const();
        let made = Box::into_raw(Box::new(Cursor::new(wall)));
        // SAFETY: the table is of `connect`, and SQLite keeps the cursor until it closes it.
        unsafe {
            let walls = &(*wall).walls;
            lock(&walls.reads).push(made as usize);
            *cursor = made.cast();
        }
        ffi::SQLITE_OK
    })
}

unsafe extern "C" fn close(cursor: *mut ffi::sqlite3_vtab_cursor) -> c_int {
    shielded(|| {
        // SAFETY: it was made by `open`, and SQLite lets go of it.
        unsafe {
            let cursor = cursor.cast::<Cursor>();
            let walls = &(*(*cursor).wall).walls;
            let mut reads = lock(&walls.reads);
            reads.retain(|read| *read != cursor as usize);
            drop(reads);
            drop(Box::from_raw(cursor));
        }
        ffi::SQLITE_OK
    })
}

/// Runs `work` on a cursor, and records why it failed.
///
/// # Safety
/// The cursor is one that SQLite called with.
unsafe fn with(
    cursor: *mut ffi::sqlite3_vtab_cursor,
    work: impl FnOnce(&mut Cursor) -> Result<(), Failure>,
) -> c_int {
    shielded(|| {
        // SAFETY: it was made by `open`; SQLite calls nothing else of it meanwhile.
        unsafe {
            match work(&mut *cursor.cast::<Cursor>()) {
                Ok(()) => ffi::SQLITE_OK,
                Err(failure) => failed((*cursor).pVtab, &failure),
            }
        }
    })
}

unsafe extern "C" fn filter(
    cursor: *mut ffi::sqlite3_vtab_cursor,
    _: c_int,
    plan: *const c_char,
    argc: c_int,
    argv: *mut *mut ffi::sqlite3_value,
) -> c_int {
    // SAFETY: SQLite's own arguments: the plan is the text of `best_index`.
    unsafe {
        with(cursor, |cursor| {
            let values = match usize::try_from(argc) {
                Ok(count) if count > 0 => slice::from_raw_parts(argv, count),
                _ => &[],
            };
            cursor.begin(CStr::from_ptr(plan).to_bytes(), values)
        })
    }
}

unsafe extern "C" fn next(cursor: *mut ffi::sqlite3_vtab_cursor) -> c_int {
    // SAFETY: SQLite's own argument, made by `open`. Nothing in `skip` can panic.
    unsafe {
        if (*cursor.cast::<Cursor>()).skip() {
            return ffi::SQLITE_OK;
        }
        with(cursor, Cursor::next)
    }
}

unsafe extern "C" fn eof(cursor: *mut ffi::sqlite3_vtab_cursor) -> c_int {
    // SAFETY: as in `with`.
    unsafe { (*cursor.cast::<Cursor>()).is_over.into() }
}

unsafe extern "C" fn column(
    cursor: *mut ffi::sqlite3_vtab_cursor,
    context: *mut ffi::sqlite3_context,
    column: c_int,
) -> c_int {
    // SAFETY: SQLite's own arguments. Where an UPDATE does not set the column, its value is not
    // asked for.
    unsafe {
        if ffi::sqlite3_vtab_nochange(context) != 0 {
            return ffi::SQLITE_OK;
        }
        with(cursor, |cursor| cursor.answer(context, usize::try_from(column).unwrap_or(usize::MAX)))
    }
}

unsafe extern "C" fn rowid(
    cursor: *mut ffi::sqlite3_vtab_cursor,
    rowid: *mut ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: SQLite's own arguments.
    unsafe {
        with(cursor, |cursor| {
            *rowid = cursor.rowid()?;
            Ok(())
        })
    }
}

unsafe extern "C" fn update(
    table: *mut ffi::sqlite3_vtab,
    argc: c_int,
    argv: *mut *mut ffi::sqlite3_value,
    rowid: *mut ffi::sqlite3_int64,
) -> c_int {
    shielded(|| {
        // SAFETY: the table is of `connect`; SQLite says how many values there are.
        unsafe {
            let values = slice::from_raw_parts(argv, usize::try_from(argc).unwrap_or_default());
            let wall = &*table.cast::<Wall>();
            match wall.write(values) {
                Ok(new) => {
                    *rowid = new;
                    ffi::SQLITE_OK
                }
                Err(mut failure) => {
                    failure.code = wall.conflict(failure.code);
                    failed(table, &failure)
                }
            }
        }
    })
}
