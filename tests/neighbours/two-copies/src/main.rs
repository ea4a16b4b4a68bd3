//! With a second copy of SQLite in the process, loaded at run time, like the library of a browser
//! window. While that copy has the file open, Verger refuses to open it.
#![allow(unsafe_code, reason = "a library that is loaded at run time is called through pointers")]

use std::ffi::{CString, c_char, c_int, c_void};
use std::path::Path;
use std::ptr::null_mut;

use libloading::Library;
use verger::{OpenError, Verger, rusqlite};

type Open = unsafe extern "C" fn(*const c_char, *mut *mut c_void) -> c_int;
type Exec = unsafe extern "C" fn(
    *mut c_void,
    *const c_char,
    *mut c_void,
    *mut c_void,
    *mut *mut c_char,
) -> c_int;
type Close = unsafe extern "C" fn(*mut c_void) -> c_int;

/// A connection of the system's SQLite.
struct Other<'l> {
    library: &'l Library,
    handle: *mut c_void,
}

impl<'l> Other<'l> {
    fn open(library: &'l Library, file: &Path) -> Self {
        let name = CString::new(file.to_str().expect("a path in UTF-8")).expect("no NUL");
        let mut handle = null_mut();
        // SAFETY: as sqlite3.h declares it.
        let code = unsafe {
            let open = library.get::<Open>(b"sqlite3_open").expect("sqlite3_open");
            open(name.as_ptr(), &mut handle)
        };
        assert_eq!(code, 0);
        Self { library, handle }
    }

    fn run(&self, sql: &str) {
        let sql = CString::new(sql).expect("no NUL");
        // SAFETY: as sqlite3.h declares it; the handle is open.
        let code = unsafe {
            let exec = self.library.get::<Exec>(b"sqlite3_exec").expect("sqlite3_exec");
            exec(self.handle, sql.as_ptr(), null_mut(), null_mut(), null_mut())
        };
        assert_eq!(code, 0);
    }
}

impl Drop for Other<'_> {
    fn drop(&mut self) {
        // SAFETY: as sqlite3.h declares it; the handle is closed once.
        unsafe {
            let close = self.library.get::<Close>(b"sqlite3_close").expect("sqlite3_close");
            close(self.handle);
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("app.db");
    Verger::builder(&file).open()?;
    // SAFETY: loading SQLite runs no code of its own.
    let library = unsafe { Library::new("libsqlite3.so.0") }?;
    let other = Other::open(&library, &file);
    other.run("SELECT count(*) FROM sqlite_schema");
    let refused = Verger::builder(&file).open().map(drop);
    match refused {
        Err(error @ OpenError::SecondCopy { .. }) => println!("{error}"),
        other => return Err(format!("not refused: {other:?}").into()),
    }
    drop(other);
    // The same copy may have it open as often as it likes.
    let app = rusqlite::Connection::open(&file)?;
    app.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    let idle = rusqlite::Connection::open(&file)?;
    Verger::builder(&file).open()?;
    drop((app, idle));
    Ok(())
}
