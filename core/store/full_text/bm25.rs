//! `bm25`, and with it `rank`, as FTS5 computes them. This one needs no list of all matches in a
//! document, which is as long as the product of the words and the document, and it looks at the
//! deadline on the way.

use std::ffi::{c_int, c_uchar, c_void};
use std::slice;

use rusqlite::ffi;

use crate::store::bounded_functions::Over;

/// Matches between two looks at the deadline.
const BETWEEN_LOOKS: u32 = 1 << 16;

/// The weights that FTS5 documents.
const K1: f64 = 1.2;
const B: f64 = 0.75;

/// The cursor of a search, as FTS5 hands it on.
type Cursor = c_void;

/// `Fts5PhraseIter`.
#[repr(C)]
struct Matches {
    at: *const c_uchar,
    end: *const c_uchar,
}

type Each = unsafe extern "C" fn(*const Query, *mut Cursor, *mut c_void) -> c_int;

/// `Fts5ExtensionApi`, as far as it is used here. Functions that are not used only keep their
/// places.
#[repr(C)]
pub(super) struct Query {
    version: c_int,
    user_data: Option<unsafe extern "C" fn(*mut Cursor) -> *mut c_void>,
    column_count: *const c_void,
    row_count: Option<unsafe extern "C" fn(*mut Cursor, *mut i64) -> c_int>,
    column_total_size: Option<unsafe extern "C" fn(*mut Cursor, c_int, *mut i64) -> c_int>,
    tokenize: *const c_void,
    phrase_count: Option<unsafe extern "C" fn(*mut Cursor) -> c_int>,
    phrase_size: *const c_void,
    match_count: *const c_void,
    match_at: *const c_void,
    rowid: *const c_void,
    column_text: *const c_void,
    column_size: Option<unsafe extern "C" fn(*mut Cursor, c_int, *mut c_int) -> c_int>,
    query_phrase: Option<unsafe extern "C" fn(*mut Cursor, c_int, *mut c_void, Each) -> c_int>,
    set_data: Option<
        unsafe extern "C" fn(
            *mut Cursor,
            *mut c_void,
            Option<unsafe extern "C" fn(*mut c_void)>,
        ) -> c_int,
    >,
    data: Option<unsafe extern "C" fn(*mut Cursor, c_int) -> *mut c_void>,
    phrase_first: Option<
        unsafe extern "C" fn(*mut Cursor, c_int, *mut Matches, *mut c_int, *mut c_int) -> c_int,
    >,
    phrase_next: Option<unsafe extern "C" fn(*mut Cursor, *mut Matches, *mut c_int, *mut c_int)>,
}

/// What is the same for all documents of one search.
struct Search {
    /// Words of a document on average.
    average: f64,
    /// How rare each phrase is.
    rarity: Vec<f64>,
}

/// The value, or SQLite's code of the failure.
type Code<T> = Result<T, c_int>;

fn done(code: c_int) -> Code<()> {
    if code == ffi::SQLITE_OK { Ok(()) } else { Err(code) }
}

pub(super) unsafe extern "C" fn forget(is_over: *mut c_void) {
    // SAFETY: it was leaked for this when the function was made, and nobody uses it any more.
    drop(unsafe { Box::from_raw(is_over.cast::<Over>()) });
}

unsafe extern "C" fn forget_search(search: *mut c_void) {
    // SAFETY: `search` leaked it to FTS5, which gives it back once.
    drop(unsafe { Box::from_raw(search.cast::<Search>()) });
}

unsafe extern "C" fn count(_: *const Query, _: *mut Cursor, hits: *mut c_void) -> c_int {
    // SAFETY: it is the counter that `search` gave.
    unsafe { *hits.cast::<i64>() += 1 };
    ffi::SQLITE_OK
}

/// The function. The better a document matches, the lower its value.
pub(super) unsafe extern "C" fn score(
    query: *const Query,
    cursor: *mut c_void,
    context: *mut ffi::sqlite3_context,
    argc: c_int,
    argv: *mut *mut ffi::sqlite3_value,
) {
    // SAFETY: FTS5's own arguments; it says how many weights there are.
    unsafe {
        let weights = match usize::try_from(argc) {
            Ok(count) if count > 0 => slice::from_raw_parts(argv, count),
            _ => &[],
        };
        match computed(&*query, cursor, weights) {
            Ok(score) => ffi::sqlite3_result_double(context, -score),
            Err(code) => ffi::sqlite3_result_error_code(context, code),
        }
    }
}

/// # Safety
/// The cursor is the one that FTS5 called with, the values are its own.
unsafe fn computed(
    query: &Query,
    cursor: *mut Cursor,
    weights: &[*mut ffi::sqlite3_value],
) -> Code<f64> {
    let (Some(user_data), Some(first), Some(next), Some(size)) =
        (query.user_data, query.phrase_first, query.phrase_next, query.column_size)
    else {
        return Err(ffi::SQLITE_ERROR);
    };
    // SAFETY: as said. What the search is leaked to lives as long as the search.
    unsafe {
        let search = &*search(query, cursor)?;
        let is_over = &*user_data(cursor).cast::<Over>();
        let (mut words, mut seen) = (0, 0_u32);
        done(size(cursor, -1, &mut words))?;
        let length = 1.0 - B + B * f64::from(words) / search.average;
        let mut score = 0.0;
        for (phrase, rarity) in search.rarity.iter().enumerate() {
            let phrase = c_int::try_from(phrase).unwrap_or(c_int::MAX);
            let mut matches = Matches { at: std::ptr::null(), end: std::ptr::null() };
            let (mut column, mut place, mut frequency) = (0, 0, 0.0);
            done(first(cursor, phrase, &mut matches, &mut column, &mut place))?;
            while let Ok(number) = usize::try_from(column) {
                frequency += match weights.get(number) {
                    Some(weight) => ffi::sqlite3_value_double(*weight),
                    None => 1.0,
                };
                seen = seen.wrapping_add(1);
                if seen.is_multiple_of(BETWEEN_LOOKS) && is_over() {
                    return Err(ffi::SQLITE_INTERRUPT);
                }
                next(cursor, &mut matches, &mut column, &mut place);
            }
            score += rarity * ((frequency * (K1 + 1.0)) / (frequency + K1 * length));
        }
        Ok(score)
    }
}

/// What is known of the present search, looked up at its first document.
///
/// # Safety
/// The cursor is the one that FTS5 called with.
unsafe fn search(query: &Query, cursor: *mut Cursor) -> Code<*const Search> {
    let (Some(data), Some(set_data), Some(rows_of), Some(size_of), Some(phrases), Some(each)) = (
        query.data,
        query.set_data,
        query.row_count,
        query.column_total_size,
        query.phrase_count,
        query.query_phrase,
    ) else {
        return Err(ffi::SQLITE_ERROR);
    };
    // SAFETY: as said. Nothing else sets data of this function.
    unsafe {
        let known = data(cursor, 0);
        if !known.is_null() {
            return Ok(known.cast());
        }
        let (mut rows, mut words) = (0, 0);
        done(rows_of(cursor, &mut rows))?;
        done(size_of(cursor, -1, &mut words))?;
        let mut rarity = Vec::new();
        for phrase in 0..phrases(cursor) {
            let mut hits: i64 = 0;
            let place: *mut i64 = &mut hits;
            done(each(cursor, phrase, place.cast(), count))?;
            let rare = ((rows - hits) as f64 + 0.5) / (hits as f64 + 0.5);
            // FTS5 takes a phrase in most documents to be worth next to nothing, but not less.
            rarity.push(if rare > 1.0 { rare.ln() } else { 1e-6 });
        }
        let search = Box::new(Search { average: words as f64 / rows as f64, rarity });
        let search = Box::into_raw(search);
        // FTS5 gives it back when it fails, too.
        done(set_data(cursor, search.cast(), Some(forget_search)))?;
        Ok(search)
    }
}
