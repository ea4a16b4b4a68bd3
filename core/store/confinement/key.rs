//! The key of a row without a rowid, as one value, because SQLite lets a virtual table have no
//! other.
#![allow(unsafe_code, reason = "the values are SQLite's own")]

use rusqlite::ffi;

use super::inner::Inner;

/// Appends a value to a key.
///
/// # Safety
/// The value is one that SQLite gave and has not taken back.
pub(super) unsafe fn append(key: &mut Vec<u8>, value: *mut ffi::sqlite3_value) {
    // SAFETY: as said; the bytes are copied before SQLite may move them.
    unsafe {
        match ffi::sqlite3_value_type(value) {
            ffi::SQLITE_INTEGER => {
                key.push(b'i');
                key.extend(ffi::sqlite3_value_int64(value).to_le_bytes());
            }
            ffi::SQLITE_FLOAT => {
                key.push(b'r');
                key.extend(ffi::sqlite3_value_double(value).to_le_bytes());
            }
            kind => {
                let bytes = if kind == ffi::SQLITE_TEXT {
                    key.push(b't');
                    ffi::sqlite3_value_text(value).cast()
                } else {
                    key.push(b'b');
                    ffi::sqlite3_value_blob(value)
                };
                let length = usize::try_from(ffi::sqlite3_value_bytes(value)).unwrap_or_default();
                let length = if bytes.is_null() { 0 } else { length };
                key.extend((length as u64).to_le_bytes());
                if length > 0 {
                    key.extend(std::slice::from_raw_parts(bytes.cast::<u8>(), length));
                }
            }
        }
    }
}

/// Binds the parts of a key from this parameter on. Returns whether there were that many.
pub(super) fn bind(inner: &mut Inner, first: usize, parts: usize, mut key: &[u8]) -> bool {
    for place in first..first + parts {
        let Some((kind, rest)) = key.split_first() else { return false };
        let Some((word, rest)) = rest.split_first_chunk::<8>() else { return false };
        key = rest;
        match kind {
            b'i' => inner.bind_integer(place, i64::from_le_bytes(*word)),
            b'r' => inner.bind_real(place, f64::from_le_bytes(*word)),
            kind => {
                let length = usize::try_from(u64::from_le_bytes(*word)).unwrap_or(usize::MAX);
                let Some((bytes, rest)) = key.split_at_checked(length) else { return false };
                key = rest;
                inner.bind_bytes(place, bytes, *kind == b't');
            }
        }
    }
    key.is_empty()
}
