//! The tokenizers of FTS5, with a bound on what they find.

use std::ffi::{c_char, c_int, c_void};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rusqlite::ffi;

use super::{REFUSED, REPEATED_MAX, TEXT_REFUSED, Token, Tokenizer, Words};

/// Why FTS5 wants words: bits of `xTokenize`.
const FOR_A_SEARCH: c_int = 1;
const FOR_A_DOCUMENT: c_int = 4;

/// Counters for the words of a text. Words that share a counter are counted together.
const BUCKETS: usize = 4_096;

/// What FTS5 is given in place of each of its own tokenizers.
pub(super) const COUNTED: Tokenizer = Tokenizer {
    create: Some(create_counted),
    delete: Some(delete_counted),
    tokenize: Some(tokenize_counted),
};

/// A tokenizer of SQLite, and where its words are counted.
pub(super) struct Counted {
    pub(super) real: Tokenizer,
    pub(super) context: *mut c_void,
    pub(super) words: Words,
    /// The most words that a search may have.
    pub(super) most: u32,
}

/// A tokenizer that a table uses.
struct Instance {
    real: Tokenizer,
    tokenizer: *mut c_void,
    words: Words,
    most: u32,
}

/// Passes a search's words on, and counts them.
struct Passed<'a> {
    context: *mut c_void,
    token: Option<Token>,
    words: &'a AtomicU32,
    most: u32,
}

/// Passes a text's words on, and counts them.
struct Repeated<'a> {
    context: *mut c_void,
    token: Option<Token>,
    words: &'a AtomicU32,
    counts: Vec<u32>,
}

pub(super) unsafe extern "C" fn forget(counted: *mut c_void) {
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
            let is_short = u32::try_from(length).is_ok_and(|length| length <= REPEATED_MAX);
            if is_short || why & FOR_A_DOCUMENT == 0 {
                return tokenize(instance.tokenizer, context, why, text, length, token);
            }
            let counts = vec![0; BUCKETS];
            let mut repeated = Repeated { context, token, words: &instance.words, counts };
            let place: *mut Repeated<'_> = &mut repeated;
            return tokenize(instance.tokenizer, place.cast(), why, text, length, Some(note));
        }
        let before = instance.words.load(Ordering::Relaxed);
        let mut passed = Passed { context, token, words: &instance.words, most: instance.most };
        let place: *mut Passed<'_> = &mut passed;
        let code = tokenize(instance.tokenizer, place.cast(), why, text, length, Some(pass));
        if code == ffi::SQLITE_OK && instance.words.load(Ordering::Relaxed) == before {
            // A phrase without a word counts as one, because FTS5 copies the list of words for
            // each.
            return passed.count();
        }
        code
    }
}

impl Passed<'_> {
    fn count(&self) -> c_int {
        if self.words.fetch_add(1, Ordering::Relaxed) >= self.most {
            self.words.store(REFUSED, Ordering::Relaxed);
            return ffi::SQLITE_AUTH;
        }
        ffi::SQLITE_OK
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
        let code = passed.count();
        if code != ffi::SQLITE_OK {
            return code;
        }
        match passed.token {
            Some(token) => token(passed.context, flags, text, length, start, end),
            None => ffi::SQLITE_OK,
        }
    }
}

unsafe extern "C" fn note(
    repeated: *mut c_void,
    flags: c_int,
    text: *const c_char,
    length: c_int,
    start: c_int,
    end: c_int,
) -> c_int {
    // SAFETY: it is what `tokenize_counted` passed, and lives as long as its call; FTS5 says how
    // long the word is.
    unsafe {
        let repeated = &mut *repeated.cast::<Repeated<'_>>();
        let length_bytes = usize::try_from(length).unwrap_or_default();
        let mut head = [0; 8];
        ptr::copy_nonoverlapping(text.cast(), head.as_mut_ptr(), length_bytes.min(8));
        let mixed =
            (u64::from_le_bytes(head) ^ length_bytes as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        if let Some(count) = repeated.counts.get_mut((mixed >> 52) as usize) {
            *count += 1;
            if *count > REPEATED_MAX {
                repeated.words.store(TEXT_REFUSED, Ordering::Relaxed);
                return ffi::SQLITE_AUTH;
            }
        }
        match repeated.token {
            Some(token) => token(repeated.context, flags, text, length, start, end),
            None => ffi::SQLITE_OK,
        }
    }
}
