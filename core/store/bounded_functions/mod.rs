//! SQL functions that take SQLite a time that grows with the product of their arguments' lengths,
//! in a form that ends in time.
//!
//! SQLite looks at the deadline between steps, never inside a function. Its `instr` of a long text
//! in a longer one takes hours. These functions give the same answers in linear time, or look at
//! the deadline themselves. In return, `LIKE` and `GLOB` in a worker's statement cannot use a range
//! of an index.

mod like;

use std::cell::OnceCell;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use memchr::memmem;
use rusqlite::functions::{Context, FunctionFlags};
use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, Error, ffi};

use self::like::{Pattern, Style, until_nul};

/// Whether the time of the statement at hand is over.
pub(super) type Over = Arc<dyn Fn() -> bool + Send + Sync>;

/// The bytes of a value as text.
enum Text<'a> {
    Null,
    Borrowed(&'a [u8]),
    Owned(Vec<u8>),
}

impl Text<'_> {
    fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Null => None,
            Self::Borrowed(bytes) => Some(bytes),
            Self::Owned(bytes) => Some(bytes),
        }
    }
}

fn text<'a>(context: &'a Context<'_>, place: usize) -> rusqlite::Result<Text<'a>> {
    Ok(match context.get_raw(place) {
        ValueRef::Null => Text::Null,
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Text::Borrowed(bytes),
        ValueRef::Integer(number) => Text::Owned(number.to_string().into_bytes()),
        ValueRef::Real(number) => Text::Owned(written(number)?.into_bytes()),
    })
}

/// A number as SQLite writes it. SQLite is asked, on a connection of this thread's own.
fn written(number: f64) -> rusqlite::Result<String> {
    thread_local! {
        static WRITER: OnceCell<Connection> = const { OnceCell::new() };
    }
    WRITER.with(|writer| {
        if writer.get().is_none() {
            // Set from this thread only, so it is not set now.
            let _ = writer.set(Connection::open_in_memory()?);
        }
        let Some(writer) = writer.get() else { return Err(failure(ffi::SQLITE_NOMEM, None)) };
        writer.prepare_cached("SELECT CAST(?1 AS TEXT)")?.query_row([number], |row| row.get(0))
    })
}

fn failure(code: i32, message: Option<&str>) -> Error {
    Error::SqliteFailure(ffi::Error::new(code), message.map(str::to_string))
}

pub(super) fn interrupted() -> Error {
    failure(ffi::SQLITE_INTERRUPT, None)
}

fn answer(bytes: Vec<u8>) -> ToSqlOutput<'static> {
    let text = String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
    ToSqlOutput::Owned(Value::Text(text))
}

const NULL: ToSqlOutput<'static> = ToSqlOutput::Owned(Value::Null);

/// The functions of a connection, in lower case, each with whether it is marked as one that only
/// computes.
pub(super) fn known(connection: &Connection) -> rusqlite::Result<BTreeSet<(String, bool)>> {
    connection
        .prepare("SELECT lower(name), flags & ?1 <> 0 FROM pragma_function_list")?
        .query_map([ffi::SQLITE_INNOCUOUS], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

/// Replaces SQLite's own functions by these. No text they make is longer than `most` bytes.
pub(super) fn install(connection: &Connection, most: usize, over: &Over) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8
        | FunctionFlags::SQLITE_DETERMINISTIC
        | FunctionFlags::SQLITE_INNOCUOUS;
    let stop = Arc::clone(over);
    connection.create_scalar_function("instr", 2, flags, move |context| {
        if stop() { Err(interrupted()) } else { instr(context) }
    })?;
    let stop = Arc::clone(over);
    connection.create_scalar_function("replace", 3, flags, move |context| {
        if stop() { Err(interrupted()) } else { replace(context, most) }
    })?;
    let stop = Arc::clone(over);
    connection.create_scalar_function("unhex", 2, flags, move |context| unhex(context, &stop))?;
    for (name, left, right) in
        [("trim", true, true), ("ltrim", true, false), ("rtrim", false, true)]
    {
        let stop = Arc::clone(over);
        connection.create_scalar_function(name, 2, flags, move |context| {
            trim(context, left, right, &stop)
        })?;
    }
    for (name, arguments, style) in
        [("like", 2, Style::Like), ("like", 3, Style::Like), ("glob", 2, Style::Glob)]
    {
        let stop = Arc::clone(over);
        connection.create_scalar_function(name, arguments, flags, move |context| {
            matches(context, style, &stop)
        })?;
    }
    Ok(())
}

/// Where a text begins in another, counted in characters from 1, or in bytes if both are blobs. 0
/// when it is not there.
fn instr(context: &Context<'_>) -> rusqlite::Result<Option<i64>> {
    let blobs =
        matches!((context.get_raw(0), context.get_raw(1)), (ValueRef::Blob(_), ValueRef::Blob(_)));
    let (hay, needle) = (text(context, 0)?, text(context, 1)?);
    let (Some(hay), Some(needle)) = (hay.bytes(), needle.bytes()) else { return Ok(None) };
    let Some(at) = memmem::find(hay, needle) else { return Ok(Some(0)) };
    let before = hay.get(..at).unwrap_or_default();
    let count = if blobs {
        before.len()
    } else {
        before.iter().filter(|byte| **byte & 0xc0 != 0x80).count()
    };
    Ok(i64::try_from(count).ok().map(|count| count + 1))
}

fn replace(context: &Context<'_>, most: usize) -> rusqlite::Result<ToSqlOutput<'static>> {
    let (hay, needle, by) = (text(context, 0)?, text(context, 1)?, text(context, 2)?);
    let (Some(hay), Some(needle)) = (hay.bytes(), needle.bytes()) else { return Ok(NULL) };
    if needle.is_empty() || needle.first() == Some(&0) {
        return Ok(answer(hay.to_vec()));
    }
    let Some(by) = by.bytes() else { return Ok(NULL) };
    let mut replaced = Vec::with_capacity(hay.len());
    let mut from = 0;
    for at in memmem::find_iter(hay, needle) {
        replaced.extend_from_slice(hay.get(from..at).unwrap_or_default());
        replaced.extend_from_slice(by);
        from = at + needle.len();
        if replaced.len() > most {
            return Err(failure(ffi::SQLITE_TOOBIG, None));
        }
    }
    replaced.extend_from_slice(hay.get(from..).unwrap_or_default());
    Ok(answer(replaced))
}

/// The characters of a text, well-formed or not.
fn characters(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (first, rest) = bytes.split_first()?;
        let more = if *first >= 0xc0 {
            rest.iter().take_while(|byte| **byte & 0xc0 == 0x80).count()
        } else {
            0
        };
        let (character, rest) = bytes.split_at_checked(1 + more)?;
        bytes = rest;
        Some(character)
    })
}

fn trim(
    context: &Context<'_>,
    left: bool,
    right: bool,
    over: &Over,
) -> rusqlite::Result<ToSqlOutput<'static>> {
    let (text, set) = (self::text(context, 0)?, self::text(context, 1)?);
    let (Some(mut rest), Some(set)) = (text.bytes(), set.bytes()) else { return Ok(NULL) };
    let mut steps = 0_u32;
    let mut go_on = || {
        steps += 1;
        if steps % STEPS == 1 && over() { Err(interrupted()) } else { Ok(()) }
    };
    let mut known = HashSet::new();
    for character in characters(until_nul(set)) {
        go_on()?;
        known.insert(character);
    }
    let set = known;
    if left {
        let mut cut = 0;
        for character in characters(rest).take_while(|character| set.contains(character)) {
            go_on()?;
            cut += character.len();
        }
        rest = rest.get(cut..).unwrap_or_default();
    }
    while right && !rest.is_empty() {
        // SQLite removes a character of the set that the text ends with, well-formed or not.
        go_on()?;
        let ends = (1..=rest.len().min(4))
            .find(|length| set.contains(rest.get(rest.len() - length..).unwrap_or_default()));
        let Some(length) = ends else { break };
        rest = rest.get(..rest.len() - length).unwrap_or_default();
    }
    Ok(answer(rest.to_vec()))
}

/// The bytes that pairs of hexadecimal digits stand for. Between the pairs there may be characters
/// of a second text. NULL if there is anything else.
fn unhex(context: &Context<'_>, over: &Over) -> rusqlite::Result<Option<Vec<u8>>> {
    let (hex, passed) = (text(context, 0)?, text(context, 1)?);
    let (Some(hex), Some(passed)) = (hex.bytes(), passed.bytes()) else { return Ok(None) };
    let (hex, passed) =
        (String::from_utf8_lossy(until_nul(hex)), String::from_utf8_lossy(until_nul(passed)));
    let mut steps = 0_u32;
    let mut go_on = || {
        steps += 1;
        if steps % STEPS == 1 && over() { Err(interrupted()) } else { Ok(()) }
    };
    let mut known = HashSet::new();
    for character in passed.chars() {
        go_on()?;
        known.insert(character);
    }
    let mut bytes = Vec::with_capacity(hex.len() / 2);
    let mut high = None;
    for character in hex.chars() {
        go_on()?;
        let digit = character.to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        match (high.take(), digit) {
            (None, Some(digit)) => high = Some(digit),
            (Some(high), Some(low)) => bytes.push(high << 4 | low),
            (None, None) if known.contains(&character) => {}
            _ => return Ok(None),
        }
    }
    Ok(high.is_none().then_some(bytes))
}

fn matches(context: &Context<'_>, style: Style, over: &Over) -> rusqlite::Result<Option<bool>> {
    let (pattern, subject) = (text(context, 0)?, text(context, 1)?);
    let escape = match context.len() {
        3 => match text(context, 2)?.bytes() {
            None => return Ok(None),
            Some(bytes) => {
                let text = String::from_utf8_lossy(bytes);
                let mut characters = text.chars();
                match (characters.next(), characters.next()) {
                    (Some(one), None) => Some(one),
                    _ => {
                        return Err(failure(
                            ffi::SQLITE_ERROR,
                            Some("ESCAPE expression must be a single character"),
                        ));
                    }
                }
            }
        },
        _ => None,
    };
    let (Some(pattern), Some(subject)) = (pattern.bytes(), subject.bytes()) else {
        return Ok(None);
    };
    if pattern.len() > PATTERN_MAX_BYTES {
        return Err(failure(ffi::SQLITE_ERROR, Some("LIKE or GLOB pattern too complex")));
    }
    Pattern::new(pattern, style, escape)
        .matches(subject, || over())
        .map(Some)
        .ok_or_else(interrupted)
}

/// Steps between two looks at the deadline.
const STEPS: u32 = 1 << 14;

const PATTERN_MAX_BYTES: usize = 50_000;
