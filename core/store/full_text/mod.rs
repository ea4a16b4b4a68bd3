//! FTS5 on a connection that workers use: bounds on what it computes within one step of a program.
//!
//! FTS5 looks at the deadline whenever it reads a page of an index, but not while it works on one
//! document. There a phrase or a `NEAR` takes the product of its words and of their matches in the
//! document, and `highlight` and `snippet` take the square of these. A search also reaches such
//! functions by a text (`rank MATCH 'snippet(…)'`), about which no authorizer is asked. So these
//! two are refused, [`bm25`] is replaced by one that looks at the deadline, and a [`tokenizer`]
//! counts what it finds: the words of a search, and how often a word comes in a text that a worker
//! writes.
#![allow(unsafe_code, reason = "FTS5 is extended through pointers; see sqlite.org/fts5.html")]

mod bm25;
mod tokenizer;

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rusqlite::{Connection, ffi};

use self::tokenizer::{COUNTED, Counted, forget};
use super::bounded_functions::Over;

/// How many words the searches between two looks at the deadline may have. In a `NEAR`, one word
/// takes some 110 ns for each of its matches in a document.
const WORDS_MAX: u32 = 16;

/// The same for `trigram`, which makes a word of each letter.
const TRIGRAMS_MAX: u32 = 64;

/// How often one word may come in a text that a worker indexes. The commonest word of a language is
/// one of 16, so a text of a language may be as long as a value.
const REPEATED_MAX: u32 = 100_000;

/// The number of words of searches since the last look.
pub(super) type Words = Arc<AtomicU32>;

/// The count after a search with too many words, and after a text that repeats a word too often.
pub(super) const REFUSED: u32 = 1 << 30;
const TEXT_REFUSED: u32 = 1 << 31;

/// Why a search or a text was refused since the count began, if one was.
pub(super) fn why_refused(words: &Words) -> Option<String> {
    match words.swap(0, Ordering::Relaxed) {
        TEXT_REFUSED.. => Some(format!(
            "write denied: a text for a full-text index has one word more than {REPEATED_MAX} times"
        )),
        REFUSED.. => Some(format!(
            "search denied: more than {WORDS_MAX} words ({TRIGRAMS_MAX} trigrams) in one full-text \
             search; search for fewer at a time"
        )),
        _ => None,
    }
}

type Token = unsafe extern "C" fn(*mut c_void, c_int, *const c_char, c_int, c_int, c_int) -> c_int;
type Create =
    unsafe extern "C" fn(*mut c_void, *mut *const c_char, c_int, *mut *mut c_void) -> c_int;
type Delete = unsafe extern "C" fn(*mut c_void);
type Tokenize = unsafe extern "C" fn(
    *mut c_void,
    *mut c_void,
    c_int,
    *const c_char,
    c_int,
    Option<Token>,
) -> c_int;
type Destroy = unsafe extern "C" fn(*mut c_void);
type Auxiliary = unsafe extern "C" fn(
    *const bm25::Query,
    *mut c_void,
    *mut ffi::sqlite3_context,
    c_int,
    *mut *mut ffi::sqlite3_value,
);

/// `fts5_tokenizer`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Tokenizer {
    create: Option<Create>,
    delete: Option<Delete>,
    tokenize: Option<Tokenize>,
}

/// `fts5_api`, as far as version 2 has it.
#[repr(C)]
struct Api {
    version: c_int,
    create_tokenizer: Option<
        unsafe extern "C" fn(
            *mut Api,
            *const c_char,
            *mut c_void,
            *mut Tokenizer,
            Option<Destroy>,
        ) -> c_int,
    >,
    find_tokenizer: Option<
        unsafe extern "C" fn(*mut Api, *const c_char, *mut *mut c_void, *mut Tokenizer) -> c_int,
    >,
    create_function: Option<
        unsafe extern "C" fn(
            *mut Api,
            *const c_char,
            *mut c_void,
            Option<Auxiliary>,
            Option<Destroy>,
        ) -> c_int,
    >,
}

/// `Fts5Global`, which begins with an `fts5_api` of this many functions.
#[repr(C)]
struct Global<const FUNCTIONS: usize> {
    version: c_int,
    functions: [*const c_void; FUNCTIONS],
    db: *mut ffi::sqlite3,
    next: i64,
    auxiliaries: *const c_void,
    /// Tokenizers, the newest first. Each begins with its name.
    tokenizers: *const *const c_char,
    /// The tokenizer of tables that name none: the oldest.
    default: *const *const c_char,
}

/// Makes tables that name no tokenizer use the newest `unicode61`, as those that name it do. FTS5
/// has no function for this. Returns whether it was done: it is not where FTS5 is built in an
/// unknown way.
///
/// # Safety
/// The api is of this connection, which nothing else uses now.
unsafe fn make_default<const FUNCTIONS: usize>(api: *mut Api, db: *mut ffi::sqlite3) -> bool {
    // SAFETY: FTS5 hands out the beginning of its `Fts5Global`. The connection in it proves that
    // what follows lies where it is expected, and so do two names.
    unsafe {
        let global = &mut *api.cast::<Global<FUNCTIONS>>();
        let is_unicode = |module: *const *const c_char| {
            !module.is_null() && !(*module).is_null() && CStr::from_ptr(*module) == c"unicode61"
        };
        let is_known = global.db == db
            && is_unicode(global.tokenizers)
            && is_unicode(global.default)
            && global.tokenizers != global.default;
        if is_known {
            global.default = global.tokenizers;
        }
        is_known
    }
}

/// Puts the bounds in place, if this SQLite has FTS5. Call it before any table is used. Returns
/// whether all searches are bounded. If they are not, no table of FTS5 is open to workers.
pub(super) fn install(
    connection: &Connection,
    words: &Words,
    is_over: &Over,
) -> rusqlite::Result<bool> {
    let api = api(connection);
    if api.is_null() {
        return Ok(false);
    }
    // SAFETY: `api` is that of this connection, which nothing else uses now; it copies what it is
    // given. What is leaked to it comes back to `forget` of each kind.
    unsafe {
        let (Some(create_function), Some(find), Some(create)) =
            ((*api).create_function, (*api).find_tokenizer, (*api).create_tokenizer)
        else {
            return Ok(false);
        };
        for name in [c"highlight", c"snippet"] {
            check(create_function(api, name.as_ptr(), ptr::null_mut(), Some(refuse), None))?;
        }
        let looks = Box::into_raw(Box::new(Arc::clone(is_over))).cast();
        let (score, done) = (Some(bm25::score as Auxiliary), Some(bm25::forget as Destroy));
        check(create_function(api, c"bm25".as_ptr(), looks, score, done))?;
        // `porter` uses `unicode61`, which counts for it.
        for (name, most) in
            [(c"ascii", WORDS_MAX), (c"trigram", TRIGRAMS_MAX), (c"unicode61", WORDS_MAX)]
        {
            let mut real = Tokenizer { create: None, delete: None, tokenize: None };
            let mut context = ptr::null_mut();
            if find(api, name.as_ptr(), &mut context, &mut real) != ffi::SQLITE_OK {
                continue;
            }
            let counted = Box::new(Counted { real, context, words: Arc::clone(words), most });
            let counted = Box::into_raw(counted).cast();
            check(create(api, name.as_ptr(), counted, &mut COUNTED.clone(), Some(forget)))?;
        }
        Ok(match (*api).version {
            2 => make_default::<3>(api, connection.handle()),
            3 => make_default::<5>(api, connection.handle()),
            _ => false,
        })
    }
}

fn check(code: c_int) -> rusqlite::Result<()> {
    match code {
        ffi::SQLITE_OK => Ok(()),
        code => Err(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None)),
    }
}

/// FTS5's own interface on this connection, or null.
fn api(connection: &Connection) -> *mut Api {
    let mut api: *mut Api = ptr::null_mut();
    let mut statement = ptr::null_mut();
    // SAFETY: the texts are C strings, the pointer that FTS5 writes to lives until it has.
    unsafe {
        let handle = connection.handle();
        let sql = c"SELECT fts5(?1)".as_ptr();
        if ffi::sqlite3_prepare_v2(handle, sql, -1, &mut statement, ptr::null_mut())
            == ffi::SQLITE_OK
        {
            let place: *mut *mut Api = &mut api;
            ffi::sqlite3_bind_pointer(statement, 1, place.cast(), c"fts5_api_ptr".as_ptr(), None);
            ffi::sqlite3_step(statement);
        }
        ffi::sqlite3_finalize(statement);
        if !api.is_null() && (*api).version < 2 {
            return ptr::null_mut();
        }
    }
    api
}

unsafe extern "C" fn refuse(
    _: *const bm25::Query,
    _: *mut c_void,
    context: *mut ffi::sqlite3_context,
    _: c_int,
    _: *mut *mut ffi::sqlite3_value,
) {
    let why: &CStr = c"highlight and snippet are not open to workers: their time has no bound";
    // SAFETY: SQLite calls with a context to answer in; it copies the message.
    unsafe { ffi::sqlite3_result_error(context, why.as_ptr(), -1) };
}
