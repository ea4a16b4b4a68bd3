//! What opens an encrypted file, on every connection and before anything else.

use std::fmt;
use std::hint::black_box;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension};

/// The key of an encrypted file.
///
/// SQLite itself cannot encrypt. The program links SQLCipher instead, by Verger's feature
/// `sqlcipher` or by the app's own SQLite crate. The key is set on each connection that Verger
/// opens, before its first statement. It shows in no error, log line or `Debug`.
///
/// ```
/// # #[cfg(not(feature = "sqlcipher"))]
/// # fn main() {}
/// # #[cfg(feature = "sqlcipher")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use verger::{Key, Verger};
///
/// # let folder = tempfile::tempdir()?;
/// # let file = folder.path().join("app.db");
/// # let from_the_keychain = [7; 32];
/// let verger = Verger::builder(&file).key(Key::raw(from_the_keychain)).open()?;
/// # drop(verger);
/// assert!(Verger::builder(&file).open().is_err(), "without its key");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Key(Arc<Kind>);

enum Kind {
    Passphrase(Secret),
    /// As hexadecimal digits.
    Raw(Secret),
    Hook(Box<Hook>),
}

type Hook = dyn Fn(&Connection) -> rusqlite::Result<()> + Send + Sync;

/// A text that is overwritten when it is dropped.
struct Secret(String);

impl Drop for Secret {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.0).into_bytes();
        bytes.fill(0);
        // Without this the compiler would leave out a write that nobody reads.
        black_box(&bytes);
    }
}

impl Key {
    /// A passphrase. SQLCipher derives the key from it anew for each connection, which takes some
    /// 0.1 s.
    pub fn passphrase(passphrase: impl Into<String>) -> Self {
        Self(Arc::new(Kind::Passphrase(Secret(passphrase.into()))))
    }

    /// The key itself, 256 random bits, from which nothing has to be derived. It is meant for a key
    /// that the system's keychain keeps.
    #[must_use]
    pub fn raw(key: [u8; 32]) -> Self {
        let digits = key.iter().map(|byte| format!("{byte:02x}")).collect();
        Self(Arc::new(Kind::Raw(Secret(digits))))
    }

    /// Any other way: a function that is called on each new connection, before anything else. It is
    /// for SQLCipher's further settings (`cipher_compatibility` and the like), or for another
    /// library. It must fail if that library is not linked, because SQLite itself ignores pragmas
    /// that it does not know, and the file would not be encrypted.
    pub fn with(
        set_up: impl Fn(&Connection) -> rusqlite::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(Kind::Hook(Box::new(set_up))))
    }

    /// Why it is no usable key, or cannot be used in this program.
    pub(super) fn fault(&self) -> Option<&'static str> {
        match &*self.0 {
            Kind::Hook(_) => return None,
            Kind::Passphrase(text) if text.0.is_empty() => return Some("the passphrase is empty"),
            Kind::Passphrase(text) if text.0.contains('\0') => {
                return Some("the passphrase has a NUL in it");
            }
            Kind::Passphrase(_) | Kind::Raw(_) => {}
        }
        let cipher = Connection::open_in_memory().and_then(|connection| {
            connection.query_row("PRAGMA cipher_version", [], |_| Ok(())).optional()
        });
        match cipher {
            Ok(Some(())) => None,
            _ => Some(
                "the SQLite that this program links cannot encrypt, and would write the file in \
                 plain: enable Verger's feature `sqlcipher`, or link SQLCipher",
            ),
        }
    }

    /// Sets the key of a connection that has read nothing yet.
    pub(super) fn apply(&self, connection: &Connection) -> rusqlite::Result<()> {
        let quoted = match &*self.0 {
            Kind::Hook(set_up) => return set_up(connection),
            Kind::Passphrase(text) => Secret(text.0.replace('\'', "''")),
            Kind::Raw(digits) => Secret(format!("\"x'{}'\"", digits.0)),
        };
        let statement = match &*self.0 {
            Kind::Raw(_) => Secret(format!("PRAGMA key = {}", quoted.0)),
            _ => Secret(format!("PRAGMA key = '{}'", quoted.0)),
        };
        connection.execute_batch(&statement.0).map_err(|error| {
            // SQLite's text may repeat the statement.
            let code = error.sqlite_error().copied();
            let code = code.unwrap_or(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ERROR));
            rusqlite::Error::SqliteFailure(code, Some("the key was not taken".to_string()))
        })
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}
