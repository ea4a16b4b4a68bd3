//! The key of an encrypted file, from a command that prints it.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use verger::Key;
use verger::rusqlite::{Connection, OptionalExtension};

/// The prefix of a raw key.
const RAW: &str = "raw:";

/// Runs the command, and takes the first line that it prints. The user sees what it writes to its
/// standard error and asks on the terminal.
pub(crate) fn from_command(command: &str) -> Result<Key> {
    let (shell, flag) = if cfg!(windows) { ("cmd", "/C") } else { ("sh", "-c") };
    let done = Command::new(shell)
        .args([flag, command])
        .stderr(Stdio::inherit())
        .stdin(Stdio::inherit())
        .output()
        .with_context(|| format!("--key-command: cannot run {shell}"))?;
    ensure!(done.status.success(), "--key-command: the command failed ({})", done.status);
    let line = done.stdout.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let Ok(line) = std::str::from_utf8(line) else {
        bail!("--key-command: what the command printed is no UTF-8");
    };
    ensure!(!line.is_empty(), "--key-command: the command printed nothing");
    silence_sqlcipher()?;
    match line.strip_prefix(RAW) {
        Some(digits) => raw(digits),
        None => Ok(Key::passphrase(line)),
    }
}

/// SQLCipher writes its own failures to the standard error of the process, beside the command's
/// message. SQLite itself does not know the pragma, and ignores it.
fn silence_sqlcipher() -> Result<()> {
    let connection = Connection::open_in_memory()?;
    connection.query_row("PRAGMA cipher_log_level = NONE", [], |_| Ok(())).optional()?;
    Ok(())
}

/// The message never repeats the digits.
fn raw(digits: &str) -> Result<Key> {
    let mut key = [0; 32];
    ensure!(
        digits.len() == 2 * key.len() && digits.bytes().all(|digit| digit.is_ascii_hexdigit()),
        "--key-command: after `{RAW}` the command must print 64 hexadecimal digits"
    );
    for (byte, place) in key.iter_mut().zip((0..).step_by(2)) {
        let pair = digits.get(place..place + 2).unwrap_or_default();
        *byte = u8::from_str_radix(pair, 16)?;
    }
    Ok(Key::raw(key))
}
