#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

use rusqlite::{Connection, ffi};

use super::*;

/// What SQLite's tokenizer makes of the first token of a text that is neither white space nor a
/// comment: where it begins, and its bytes. Behind `SAVEPOINT x` the parser takes none but a
/// semicolon, and says which token it does not take, and where. `None` at the text's end.
#[allow(unsafe_code, reason = "rusqlite prepares no text with a NUL, and tells no offset")]
fn first_of_sqlite(connection: &Connection, text: &[u8]) -> Option<(usize, Vec<u8>)> {
    let mut sql = b"SAVEPOINT x/**/".to_vec();
    let before = sql.len();
    sql.extend_from_slice(text);
    sql.push(0);
    let mut statement = std::ptr::null_mut();
    let mut tail = std::ptr::null();
    // SAFETY: the text ends with a NUL and outlives the call; the statement is finalized, the
    // message is copied, both before anything else is done with the connection.
    let (code, message, offset, end) = unsafe {
        let handle = connection.handle();
        let code = ffi::sqlite3_prepare_v2(
            handle,
            sql.as_ptr().cast(),
            i32::try_from(sql.len()).unwrap(),
            &mut statement,
            &mut tail,
        );
        ffi::sqlite3_finalize(statement);
        let message = std::ffi::CStr::from_ptr(ffi::sqlite3_errmsg(handle)).to_bytes().to_vec();
        let end = tail.cast::<u8>().offset_from(sql.as_ptr());
        (code, message, ffi::sqlite3_error_offset(handle), usize::try_from(end).unwrap())
    };
    if code == ffi::SQLITE_OK {
        // The end, or a semicolon, behind which the tail begins. Where
        // both may be, a comment that ends with one, the comparison says nothing.
        let at_end = sql[end] == 0 && first_of_ours(text).is_none();
        return (!at_end).then(|| (end - 1 - before, b";".to_vec()));
    }
    let start = message.iter().position(|byte| *byte == b'"').unwrap() + 1;
    let stop = message.iter().rposition(|byte| *byte == b'"').unwrap();
    let near = if message.ends_with(b": syntax error") || message.starts_with(b"unrecognized") {
        message[start..stop].to_vec()
    } else {
        panic!("{}", String::from_utf8_lossy(&message));
    };
    Some((usize::try_from(offset).unwrap() - before, near))
}

/// The same by the port.
fn first_of_ours(text: &[u8]) -> Option<(usize, Vec<u8>)> {
    let mut place = 0;
    loop {
        let (class, length) = next(&text[place..])?;
        if !matches!(class, Class::Space | Class::Comment) {
            return Some((place, text[place..place + length].to_vec()));
        }
        place += length;
    }
}

const PIECES: [&str; 72] = [
    " ", "\t", "\n", "\r", "\x0b", "\x0c", "\u{feff}", "\u{a0}", "\u{2003}", "\u{85}", "\0",
    "\u{1}", "\u{7f}", "--", "-", "->", "->>", "/*", "*/", "*", "/", "/**/", "'", "''", "\"",
    "\"\"", "`", "``", "[", "]", "]]", "(", ")", ",", ";", ".", "..", "=", "==", "<", "<=", "<>",
    "<<", ">", ">=", ">>", "!", "!=", "|", "||", "?", "?1", ":", "::", "@", "$", "#", "a", "x",
    "X'", "0", "0x", "1e5", "1.", "_", "é", "\u{fe}", "\\", "^", "{", "secrets", "e+",
];

struct Random(u64);

impl Random {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % most as u64).unwrap()
    }
}

#[test]
fn every_token_is_the_one_sqlite_tells() {
    let connection = Connection::open_in_memory().unwrap();
    let long = std::env::var_os("VERGER_LONG").is_some();
    let mut random = Random(7);
    for _ in 0..if long { 2_000_000 } else { 30_000 } {
        let length = 1 + random.below(10);
        let mut text = String::new();
        for _ in 0..length {
            text.push_str(PIECES[random.below(PIECES.len())]);
        }
        let mut rest = text.as_bytes();
        loop {
            let (ours, sqlite) = (first_of_ours(rest), first_of_sqlite(&connection, rest));
            // SQLite says so of an empty token where the text ends inside an illegal one.
            assert_eq!(ours, sqlite, "{text:?}, at {:?}", String::from_utf8_lossy(rest));
            let Some((start, token)) = ours else { break };
            rest = &rest[start + token.len()..];
        }
    }
}

#[test]
fn every_name_a_statement_uses_is_one_of_its_tokens() {
    let tokens = Tokens::of(
        "SELECT \u{feff}one, [Two], `th``ree`, \"fo\"\"ur\", 'fi''ve' FROM/**/six--seven\n.eight, ?1nine :ten",
    );
    for name in ["one", "two", "th`ree", "fo\"ur", "fi've", "SIX", "eight", "nine"] {
        assert!(tokens.mentions(name), "{name}");
    }
    for name in ["seven", "ten", "on", "five"] {
        assert!(!tokens.mentions(name), "{name}");
    }
    assert_eq!(Tokens::of("a A \"a\" 'a'").count("A"), 4);
    assert!(!Tokens::of("SELECT 1\0 secrets").mentions("secrets"));
}

#[test]
fn a_text_of_several_statements_is_told_from_one_that_ends() {
    for one in
        ["SELECT 1", "SELECT 1;", ";; SELECT 1 ;; -- ; x", "SELECT ';', \";\" /* ; */;", ";", ""]
    {
        assert!(!Tokens::of(one).are_of_several_statements(), "{one}");
    }
    for several in ["SELECT 1; SELECT 2", "DELETE FROM t;x", "SELECT 1;;'x'", ";a;b"] {
        assert!(Tokens::of(several).are_of_several_statements(), "{several}");
    }
}

#[test]
fn replace_is_told_from_the_function() {
    for sql in [
        "REPLACE INTO t VALUES (1)",
        "replace/**/into t VALUES (1)",
        "INSERT OR \u{feff}REPLACE INTO t VALUES (replace('a', 'b', 'c'))",
        "UPDATE OR REPLACE t SET a = 1",
    ] {
        assert!(Tokens::of(sql).replaces(), "{sql}");
    }
    for sql in ["SELECT replace ('a', 'b', 'c')", "SELECT 'REPLACE INTO', \"replace\" FROM t"] {
        assert!(!Tokens::of(sql).replaces(), "{sql}");
    }
}

#[test]
fn arguments_are_counted_where_they_are_given() {
    let is_function = |name: &str| ["f", "g"].contains(&name);
    for (sql, further) in [
        ("f(1)", 0),
        ("f(1, 2, 3)", 2),
        ("f(1, g(2, (3, 4), 5), 6)", 4),
        ("t(1, 2, 3), (4, 5)", 0),
        ("\"F\" (1, 2)", 1),
        ("f(')', ',')", 1),
    ] {
        assert_eq!(Tokens::of(sql).further_arguments(is_function), further, "{sql}");
    }
}
