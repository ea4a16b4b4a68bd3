//! The copy of SQLite that the program links, which may be the app's, the system's or SQLCipher's.

use std::ffi::CStr;

use rusqlite::ffi;

/// The oldest version that the tests run with: the one that rusqlite 0.32 brings.
pub(crate) const OLDEST: (i32, &str) = (3_046_000, "3.46.0");

/// What Verger cannot do without, by SQLite's name for leaving it out.
const NEEDED: [&CStr; 8] = [
    c"OMIT_AUTHORIZATION",
    c"OMIT_DECLTYPE",
    c"OMIT_FOREIGN_KEY",
    c"OMIT_JSON",
    c"OMIT_PROGRESS_CALLBACK",
    c"OMIT_TRIGGER",
    c"OMIT_VIRTUALTABLE",
    c"OMIT_WAL",
];

/// Why Verger cannot work with the SQLite that the program links, if it cannot.
pub(crate) fn unfit() -> Option<String> {
    // SAFETY: these read constants of the library, may be called at any time from any thread, and
    // take C strings.
    #[allow(unsafe_code, reason = "rusqlite has no safe form of them")]
    let (is_threadsafe, omits) = unsafe {
        let omits =
            NEEDED.into_iter().find(|option| ffi::sqlite3_compileoption_used(option.as_ptr()) != 0);
        (ffi::sqlite3_threadsafe() != 0, omits)
    };
    fault(rusqlite::version_number(), rusqlite::version(), is_threadsafe, omits)
}

fn fault(number: i32, version: &str, is_threadsafe: bool, omits: Option<&CStr>) -> Option<String> {
    let (oldest, name) = OLDEST;
    if number < oldest {
        return Some(format!(
            "it is SQLite {version}, and Verger needs {name} or newer: enable Verger's feature \
             `bundled`, or link a newer library"
        ));
    }
    if !is_threadsafe {
        return Some(format!(
            "SQLite {version} was compiled without threads: link one that was compiled with \
             SQLITE_THREADSAFE=1 or 2"
        ));
    }
    omits.map(|option| {
        format!(
            "SQLite {version} was compiled with SQLITE_{}: link one that was compiled without it",
            option.to_string_lossy()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_lacks_what_verger_needs_is_refused_by_name() {
        assert_eq!(unfit(), None, "the tests link one that has it");
        assert_eq!(fault(3_046_000, "3.46.0", true, None), None);
        let old = fault(3_040_001, "3.40.1", true, None).unwrap();
        assert!(old.contains("3.40.1") && old.contains("3.46.0"), "{old}");
        assert!(fault(3_050_000, "3.50.0", false, None).unwrap().contains("THREADSAFE"));
        let omitted = fault(3_050_000, "3.50.0", true, Some(c"OMIT_WAL")).unwrap();
        assert!(omitted.contains("SQLITE_OMIT_WAL"), "{omitted}");
    }
}
