//! A server in between that cuts a connection after so many messages.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// No cut is planned.
const NEVER: i64 = i64::MAX;

/// Passes on what clients and server say, by messages.
pub(super) struct Proxy {
    folder: tempfile::TempDir,
    /// Messages of clients until the cut. At 0 the connection of the last one is cut.
    left: Arc<AtomicI64>,
}

impl Proxy {
    pub(super) fn start(server: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("vg").tempdir_in("/tmp").unwrap();
        let listener = UnixListener::bind(folder.path().join(".s.PGSQL.5432")).unwrap();
        let left = Arc::new(AtomicI64::new(NEVER));
        let (counted, server) = (Arc::clone(&left), PathBuf::from(server).join(".s.PGSQL.5432"));
        // It ends with the process.
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = UnixStream::connect(&server) else { continue };
                let (mut answers, mut told) =
                    (server.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut answers, &mut told);
                    let _ = told.shutdown(Shutdown::Both);
                });
                let left = Arc::clone(&counted);
                std::thread::spawn(move || pass_on(client, server, &left));
            }
        });
        Self { folder, left }
    }

    pub(super) fn socket(&self) -> String {
        self.folder.path().display().to_string()
    }

    /// Plans a cut after so many messages, whichever connection sends the last of them.
    pub(super) fn cut_after(&self, messages: i64) {
        self.left.store(messages, Ordering::SeqCst);
    }

    /// Plans none. Returns whether there was one.
    pub(super) fn cut_no_more(&self) -> bool {
        self.left.swap(NEVER, Ordering::SeqCst) <= 0
    }
}

/// Passes on what a client says, message by message.
fn pass_on(mut client: UnixStream, mut server: UnixStream, left: &AtomicI64) {
    let mut is_first = true;
    while let Ok(message) = message(&mut client, is_first) {
        is_first = false;
        if server.write_all(&message).is_err() {
            break;
        }
        if left.load(Ordering::SeqCst) != NEVER && left.fetch_sub(1, Ordering::SeqCst) == 1 {
            break;
        }
    }
    // The server has the message, and what it answers is not heard any more.
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Write);
}

/// One message of a client. The first one of a connection has no letter in front.
fn message(client: &mut UnixStream, is_first: bool) -> std::io::Result<Vec<u8>> {
    let mut message = vec![0; if is_first { 4 } else { 5 }];
    client.read_exact(&mut message)?;
    let length = message.last_chunk::<4>().map_or(4, |length| u32::from_be_bytes(*length));
    let begun = message.len();
    message.resize(begun + (length.max(4) - 4) as usize, 0);
    client.read_exact(&mut message[begun..])?;
    Ok(message)
}
