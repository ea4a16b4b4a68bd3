//! FTS5 on a connection that workers use: what it computes within one step of a program.
//!
//! FTS5 looks at the deadline whenever it reads a page of an index, but not while it works on one
//! document. There a phrase or a `NEAR` takes the product of its words and the document's, and
//! `highlight` and `snippet` the square of its matches. A search reaches these two by a text as
//! well (`rank MATCH 'snippet(…)'`), where no authorizer is asked. So they are replaced, and the
//! words of a search are counted as its tokenizer finds them.
#![allow(unsafe_code, reason = "FTS5 is extended through pointers; see sqlite.org/fts5.html")]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rusqlite::{Connection, ffi};

/// Words that the searches between two looks at the deadline may have. One word takes some 30 ns
/// for each of the same in a document, in a `NEAR`.
const WORDS_MAX: u32 = 16;

/// The same for `trigram`, which makes a word of each letter.
const TRIGRAMS_MAX: u32 = 64;

/// The words of searches since the last look.
pub(super) type Words = Arc<AtomicU32>;

/// What the count is after a search with more.
pub(super) const REFUSED: u32 = u32::MAX >> 1;

/// Why a search was refused, if one was since the count began.
pub(super) fn why_refused(words: &Words) -> Option<String> {
    (words.swap(0, Ordering::Relaxed) >= REFUSED).then(|| {
        format!(
            "search denied: more than {WORDS_MAX} words ({TRIGRAMS_MAX} trigrams) in one full-text \
             search; search for fewer at a time"
        )
    })
}

const FOR_A_SEARCH: c_int = 1;

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
    *const c_void,
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

/// A tokenizer of SQLite, and where its words are counted.
struct Counted {
    real: Tokenizer,
    context: *mut c_void,
    words: Words,
    most: u32,
}

/// One that a table uses.
struct Instance {
    real: Tokenizer,
    tokenizer: *mut c_void,
    words: Words,
    most: u32,
}

/// A search's words on their way to whoever wants them.
struct Passed<'a> {
    context: *mut c_void,
    token: Option<Token>,
    words: &'a AtomicU32,
    most: u32,
}

/// Puts the bounds in place, where this SQLite has FTS5. Before any table is used.
pub(super) fn install(connection: &Connection, words: &Words) -> rusqlite::Result<()> {
    let api = api(connection);
    if api.is_null() {
        return Ok(());
    }
    // SAFETY: `api` is that of this connection, which nothing else uses now; it copies what it is
    // given. What is leaked to it comes back to `forget`.
    unsafe {
        let (Some(create_function), Some(find), Some(create)) =
            ((*api).create_function, (*api).find_tokenizer, (*api).create_tokenizer)
        else {
            return Ok(());
        };
        for name in [c"highlight", c"snippet"] {
            check(create_function(api, name.as_ptr(), ptr::null_mut(), Some(refuse), None))?;
        }
        // `porter` asks `unicode61`, which counts for it.
        for (name, most) in
            [(c"unicode61", WORDS_MAX), (c"ascii", WORDS_MAX), (c"trigram", TRIGRAMS_MAX)]
        {
            let mut real = Tokenizer { create: None, delete: None, tokenize: None };
            let mut context = ptr::null_mut();
            if find(api, name.as_ptr(), &mut context, &mut real) != ffi::SQLITE_OK {
                continue;
            }
            let counted = Box::new(Counted { real, context, words: Arc::clone(words), most });
            let mut ours = Tokenizer {
                create: Some(create_counted),
                delete: Some(delete_counted),
                tokenize: Some(tokenize_counted),
            };
            let counted = Box::into_raw(counted).cast();
            check(create(api, name.as_ptr(), counted, &mut ours, Some(forget)))?;
        }
    }
    Ok(())
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
    _: *const c_void,
    _: *mut c_void,
    context: *mut ffi::sqlite3_context,
    _: c_int,
    _: *mut *mut ffi::sqlite3_value,
) {
    let why: &CStr = c"highlight and snippet are not open to workers: their time has no bound";
    // SAFETY: SQLite calls with a context to answer in; it copies the message.
    unsafe { ffi::sqlite3_result_error(context, why.as_ptr(), -1) };
}

unsafe extern "C" fn forget(counted: *mut c_void) {
    // SAFETY: it was leaked for this in `install`, and nobody uses it any more.
    drop(unsafe { Box::from_raw(counted.cast::<Counted>()) });
}

unsafe extern "C" fn create_counted(
    counted: *mut c_void,
    args: *mut *const c_char,
    count: c_int,
    made: *mut *mut c_void,
) -> c_int {
    // SAFETY: `counted` is what `install` gave; the rest is passed on as it came.
    unsafe {
        let counted = &*counted.cast::<Counted>();
        let Some(create) = counted.real.create else { return ffi::SQLITE_ERROR };
        let mut tokenizer = ptr::null_mut();
        let code = create(counted.context, args, count, &mut tokenizer);
        if code == ffi::SQLITE_OK {
            let words = Arc::clone(&counted.words);
            let instance =
                Box::new(Instance { real: counted.real, tokenizer, words, most: counted.most });
            *made = Box::into_raw(instance).cast();
        }
        code
    }
}

unsafe extern "C" fn delete_counted(instance: *mut c_void) {
    if instance.is_null() {
        return;
    }
    // SAFETY: `create_counted` made it, and it is deleted once.
    unsafe {
        let instance = Box::from_raw(instance.cast::<Instance>());
        if let Some(delete) = instance.real.delete {
            delete(instance.tokenizer);
        }
    }
}

unsafe extern "C" fn tokenize_counted(
    instance: *mut c_void,
    context: *mut c_void,
    why: c_int,
    text: *const c_char,
    length: c_int,
    token: Option<Token>,
) -> c_int {
    // SAFETY: `create_counted` made the instance; what is passed lives for the call.
    unsafe {
        let instance = &*instance.cast::<Instance>();
        let Some(tokenize) = instance.real.tokenize else { return ffi::SQLITE_ERROR };
        if why & FOR_A_SEARCH == 0 {
            return tokenize(instance.tokenizer, context, why, text, length, token);
        }
        let mut passed = Passed { context, token, words: &instance.words, most: instance.most };
        let place: *mut Passed<'_> = &mut passed;
        tokenize(instance.tokenizer, place.cast(), why, text, length, Some(pass))
    }
}

unsafe extern "C" fn pass(
    passed: *mut c_void,
    flags: c_int,
    text: *const c_char,
    length: c_int,
    start: c_int,
    end: c_int,
) -> c_int {
    // SAFETY: it is what `tokenize_counted` passed, and lives as long as its call.
    unsafe {
        let passed = &*passed.cast::<Passed<'_>>();
        if passed.words.fetch_add(1, Ordering::Relaxed) >= passed.most {
            passed.words.store(REFUSED, Ordering::Relaxed);
            return ffi::SQLITE_AUTH;
        }
        match passed.token {
            Some(token) => token(passed.context, flags, text, length, start, end),
            None => ffi::SQLITE_OK,
        }
    }
}
