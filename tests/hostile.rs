//! What a hostile worker tries, the wall that stops it, and the error it sees: a table. `cargo test
//! --test hostile -- --nocapture` prints it, and another of the components that no compiler makes.
//! After each case the app's other rows are as they were, and an honest job is performed.
#![allow(clippy::print_stdout, reason = "the figures are for people")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod common;
mod handmade;

use std::time::Duration;

use common::{Kind, job, row};
use serde_json::{Value as Json, json};
use verger::testing::{ManualClock, TestVerger};
use verger::{Grant, Limits, OpenError, PerformError};

/// A case: what is tried, the wall, the code of the error, and what its message has to name.
struct Case {
    tried: &'static str,
    wall: &'static str,
    steps: Json,
    code: &'static str,
    names: &'static str,
}

/// The cases as they ended, printed at once: tests run side by side.
struct Table {
    lines: Vec<String>,
    wrong: Vec<String>,
}

impl Table {
    fn new() -> Self {
        Self {
            lines: vec![format!("{:55} {:18} what is said", "tried", "wall")],
            wrong: Vec::new(),
        }
    }

    /// `expected` is a code, and what the message has to name.
    fn row(&mut self, tried: &str, wall: &str, expected: (&str, &str), code: &str, message: &str) {
        self.lines.push(format!(
            "{tried:55} {wall:18} [{code}] {}",
            message.lines().next().unwrap_or_default()
        ));
        if code != expected.0 || !message.contains(expected.1) {
            self.wrong.push(format!("{tried}: not {expected:?}, but [{code}] {message}"));
        }
    }

    fn close(self) {
        println!("{}\n{} cases", self.lines.join("\n"), self.lines.len() - 1);
        assert!(self.wrong.is_empty(), "{}", self.wrong.join("\n"));
    }
}

fn case(
    tried: &'static str,
    wall: &'static str,
    steps: Json,
    code: &'static str,
    names: &'static str,
) -> Case {
    Case { tried, wall, steps, code, names }
}

fn query(
    tried: &'static str,
    wall: &'static str,
    sql: &str,
    code: &'static str,
    names: &'static str,
) -> Case {
    case(tried, wall, json!([["query", sql, []]]), code, names)
}

fn execute(
    tried: &'static str,
    wall: &'static str,
    sql: &str,
    code: &'static str,
    names: &'static str,
) -> Case {
    case(tried, wall, json!([["execute", sql, []]]), code, names)
}

const AUTHORIZER: &str = "authorizer";
const DEADLINE: &str = "deadline";
const LIMIT: &str = "SQL limit";
const BOUND: &str = "bound of the call";

/// The options of a job that nobody lives to see.
const LATER: &str = "{\"after_ms\": 1000000000}";

fn sql_cases() -> Vec<Case> {
    let deep = format!("SELECT {}1{}", "(1+".repeat(400), ")".repeat(400));
    let compound = vec!["SELECT 1"; 80].join(" UNION ALL ");
    let long = format!("SELECT '{}'", "x".repeat(70_000));
    let joins = format!(
        "SELECT 1 FROM {}",
        (0..70).map(|n| format!("things t{n}")).collect::<Vec<_>>().join(", ")
    );
    let columns = format!("SELECT {}", vec!["1"; 2_100].join(", "));
    let variables = "SELECT ?99999";
    let blobs = format!("SELECT {}", ["zeroblob(600000)"; 10].join(", "));
    vec![
        query(
            "reads a table it did not ask for",
            AUTHORIZER,
            "SELECT * FROM secrets",
            "denied",
            "secrets",
        ),
        query(
            "reads a table it asked for and was not granted",
            AUTHORIZER,
            "SELECT * FROM withheld",
            "denied",
            "grant",
        ),
        query(
            "reads a column it was not granted",
            AUTHORIZER,
            "SELECT secret FROM other",
            "denied",
            "other.secret",
        ),
        query("reads all columns", AUTHORIZER, "SELECT * FROM other", "denied", "other.secret"),
        query(
            "joins another table",
            AUTHORIZER,
            "SELECT * FROM things t LEFT JOIN secrets s ON s.id = t.id",
            "denied",
            "secrets",
        ),
        query(
            "a UNION into another table",
            AUTHORIZER,
            "SELECT name FROM things UNION ALL SELECT word FROM secrets",
            "denied",
            "secrets",
        ),
        query("a subquery", AUTHORIZER, "SELECT (SELECT word FROM secrets)", "denied", "secrets"),
        query(
            "an EXISTS",
            AUTHORIZER,
            "SELECT 1 WHERE EXISTS (SELECT 1 FROM secrets)",
            "denied",
            "secrets",
        ),
        query("counts", AUTHORIZER, "SELECT count(*) FROM secrets", "denied", "secrets"),
        query(
            "an IN with a table",
            AUTHORIZER,
            "SELECT 1 WHERE 'x' IN secret_words",
            "denied",
            "secret",
        ),
        query(
            "counts a view it was not granted",
            AUTHORIZER,
            "SELECT count(*) FROM secret_words",
            "denied",
            "secret",
        ),
        query(
            "a WITH named as a view",
            AUTHORIZER,
            "WITH secret_words AS (SELECT word FROM secrets) SELECT * FROM secret_words",
            "denied",
            "secrets",
        ),
        query(
            "a WITH named as the table",
            AUTHORIZER,
            "WITH secrets AS (SELECT * FROM main.secrets) SELECT * FROM secrets",
            "denied",
            "secrets",
        ),
        query("a quoted name", AUTHORIZER, "SELECT * FROM [SECRETS]", "denied", "secrets"),
        query(
            "a name behind a comment",
            AUTHORIZER,
            "SELECT * FROM/**/main/**/.\"secrets\"",
            "denied",
            "secrets",
        ),
        query(
            "RETURNING another table",
            AUTHORIZER,
            "UPDATE things SET name = 'x' RETURNING (SELECT word FROM secrets)",
            "denied",
            "secrets",
        ),
        execute(
            "UPDATE FROM another table",
            AUTHORIZER,
            "UPDATE things SET name = word FROM secrets",
            "denied",
            "secrets",
        ),
        execute(
            "INSERT from another table",
            AUTHORIZER,
            "INSERT INTO things (name) SELECT word FROM secrets",
            "denied",
            "secrets",
        ),
        execute(
            "an UPSERT that looks",
            AUTHORIZER,
            "INSERT INTO things (id) VALUES (1) ON CONFLICT DO UPDATE SET name = (SELECT word FROM secrets)",
            "denied",
            "secrets",
        ),
        execute(
            "writes where it may read",
            AUTHORIZER,
            "UPDATE other SET secret = 'x'",
            "denied",
            "update denied",
        ),
        execute(
            "deletes where it may read",
            AUTHORIZER,
            "DELETE FROM other",
            "denied",
            "delete denied",
        ),
        execute(
            "inserts elsewhere",
            AUTHORIZER,
            "INSERT INTO secrets VALUES (9, 'x')",
            "denied",
            "insert denied",
        ),
        query(
            "the engine's jobs",
            AUTHORIZER,
            "SELECT * FROM verger_jobs",
            "denied",
            "belongs to the engine",
        ),
        execute(
            "a job for another worker",
            AUTHORIZER,
            "INSERT INTO verger_jobs (worker) VALUES ('x')",
            "denied",
            "belongs to the engine",
        ),
        execute(
            "the audit log",
            AUTHORIZER,
            "DELETE FROM verger_audit",
            "denied",
            "belongs to the engine",
        ),
        query(
            "sqlite_schema",
            AUTHORIZER,
            "SELECT sql FROM sqlite_schema",
            "denied",
            "belongs to the engine",
        ),
        query(
            "sqlite_master of temp",
            AUTHORIZER,
            "SELECT * FROM temp.sqlite_master",
            "denied",
            "belongs to the engine",
        ),
        execute(
            "writes sqlite_schema",
            AUTHORIZER,
            "UPDATE sqlite_schema SET sql = ''",
            "sql",
            "may not be modified",
        ),
        execute(
            "writable_schema",
            AUTHORIZER,
            "PRAGMA writable_schema = ON",
            "denied",
            "PRAGMA writable_schema",
        ),
        execute(
            "turns the journal off",
            AUTHORIZER,
            "PRAGMA journal_mode = OFF",
            "denied",
            "PRAGMA journal_mode",
        ),
        query(
            "a PRAGMA as a table",
            AUTHORIZER,
            "SELECT * FROM pragma_table_info('secrets')",
            "denied",
            "pragma_table_info",
        ),
        query("dbstat", AUTHORIZER, "SELECT * FROM dbstat", "denied", "dbstat"),
        execute("ATTACH", AUTHORIZER, "ATTACH 'x.db' AS x", "denied", "ATTACH"),
        execute("VACUUM INTO", "transaction", "VACUUM INTO 'copy.db'", "sql", "VACUUM"),
        execute("CREATE TABLE", AUTHORIZER, "CREATE TABLE mine (x)", "denied", "CREATE"),
        execute("CREATE TEMP TABLE", AUTHORIZER, "CREATE TEMP TABLE mine (x)", "denied", "CREATE"),
        execute(
            "CREATE TEMP VIEW",
            AUTHORIZER,
            "CREATE TEMP VIEW mine AS SELECT * FROM secrets",
            "denied",
            "CREATE",
        ),
        execute(
            "CREATE TRIGGER",
            AUTHORIZER,
            "CREATE TRIGGER t AFTER INSERT ON things BEGIN DELETE FROM secrets; END",
            "denied",
            "CreateTrigger",
        ),
        execute(
            "CREATE VIRTUAL TABLE",
            AUTHORIZER,
            "CREATE VIRTUAL TABLE mine USING fts5(x)",
            "denied",
            "denied",
        ),
        execute("DROP TABLE", AUTHORIZER, "DROP TABLE things", "denied", "DROP"),
        execute("ALTER TABLE", AUTHORIZER, "ALTER TABLE things ADD COLUMN x", "denied", "ALTER"),
        execute("ANALYZE", AUTHORIZER, "ANALYZE", "denied", "denied"),
        execute("REINDEX", AUTHORIZER, "REINDEX things", "denied", "denied"),
        execute("COMMIT", AUTHORIZER, "COMMIT", "denied", "checkpoint"),
        execute("BEGIN", AUTHORIZER, "BEGIN EXCLUSIVE", "denied", "checkpoint"),
        execute("SAVEPOINT", AUTHORIZER, "SAVEPOINT x", "denied", "begin-savepoint"),
        query("EXPLAIN", AUTHORIZER, "EXPLAIN SELECT * FROM things", "denied", "EXPLAIN"),
        query(
            "load_extension",
            AUTHORIZER,
            "SELECT load_extension('evil.so')",
            "denied",
            "load_extension",
        ),
        query(
            "fts3_tokenizer",
            AUTHORIZER,
            "SELECT fts3_tokenizer('simple', x'00')",
            "denied",
            "fts3_tokenizer",
        ),
        query(
            "the tables beneath a full-text index",
            AUTHORIZER,
            "SELECT * FROM found_content",
            "denied",
            "found_content",
        ),
        query(
            "a function of the engine",
            AUTHORIZER,
            "SELECT verger_tenant()",
            "sql",
            "no such function",
        ),
        query(
            "json_patch, whose time is a product",
            AUTHORIZER,
            "SELECT json_patch('{}', '{}')",
            "denied",
            "json_patch",
        ),
        query(
            "two statements in one text",
            "prepare",
            "SELECT 1; DELETE FROM things",
            "sql",
            "more than one",
        ),
        query("no statement", "prepare", " -- nothing", "sql", "empty"),
        query(
            "a recursive query without end",
            DEADLINE,
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
            DEADLINE,
            "250 ms",
        ),
        query(
            "LIKE that tries every place",
            DEADLINE,
            "SELECT sum(a LIKE '%' || substr(a, 1, 9000) || '1') FROM (SELECT hex(zeroblob(2000000)) AS a FROM json_each('[1,2,3,4,5,6,7,8,9]'))",
            DEADLINE,
            "250 ms",
        ),
        query(
            "instr of a long text in a longer one",
            "linear function",
            "SELECT instr(hex(zeroblob(2000000)), hex(zeroblob(1000000)) || '1')",
            "ok",
            "0",
        ),
        query(
            "replace that swells",
            LIMIT,
            "SELECT length(replace(hex(zeroblob(100000)), '0', hex(zeroblob(100000))))",
            "limit",
            "too big",
        ),
        query("randomblob(1e9)", LIMIT, "SELECT randomblob(1000000000)", "limit", "too big"),
        query("zeroblob(1e9)", LIMIT, "SELECT hex(zeroblob(1000000000))", "limit", "too big"),
        query(
            "printf('%.*c')",
            LIMIT,
            "SELECT length(printf('%.*c', 1000000000, 'x'))",
            "limit",
            "too big",
        ),
        query("a row of many long values", BOUND, &blobs, "limit", "a row has more"),
        query(
            "group_concat of everything",
            LIMIT,
            "SELECT length(group_concat(hex(zeroblob(500000)))) FROM json_each('[1,2,3,4,5,6,7,8,9,10]')",
            "limit",
            "too big",
        ),
        query(
            "a path of 100,000 steps",
            "depth of JSON",
            "SELECT json_set('{}', '$' || replace(hex(zeroblob(100000)), '00', '.a'), 1)",
            "row",
            "",
        ),
        query("deeply nested expressions", LIMIT, &deep, "sql", "depth"),
        query("a compound of 80 SELECTs", LIMIT, &compound, "sql", "too many terms"),
        query("a text of 70,000 bytes", LIMIT, &long, "limit", "too long"),
        query("a join of 70 tables", LIMIT, &joins, "sql", "at most 64 tables"),
        query("2,100 columns", LIMIT, &columns, "sql", "too many columns"),
        query("a parameter of number 99999", LIMIT, variables, "sql", "variable number"),
        // What reads text by rules of its own is passed by what SQLite takes for white space, for
        // names, and for the end.
        query(
            "a byte order mark before a name",
            AUTHORIZER,
            "SELECT * FROM \u{feff}secrets",
            "denied",
            "secrets",
        ),
        query(
            "a byte order mark before a function",
            AUTHORIZER,
            "SELECT \u{feff}json_patch('{}', '{}')",
            "denied",
            "json_patch",
        ),
        execute(
            "a byte order mark before what is written",
            AUTHORIZER,
            "UPDATE \u{feff}secrets SET word = 'x'",
            "denied",
            "secrets",
        ),
        query("a name that is a text", AUTHORIZER, "SELECT * FROM 'secrets'", "denied", "secrets"),
        query(
            "a name behind a parameter",
            AUTHORIZER,
            "SELECT 1 WHERE 1 = ?1IN secrets",
            "denied",
            "secrets",
        ),
        query(
            "a name behind a line comment",
            AUTHORIZER,
            "SELECT * FROM--\n`secrets`",
            "denied",
            "secrets",
        ),
        query(
            "a NUL before the rest",
            "prepare",
            "SELECT * FROM secrets\0 WHERE 0",
            "denied",
            "secrets",
        ),
        query(
            "a NATURAL JOIN that no column names",
            "program",
            "SELECT n.word FROM secrets NATURAL JOIN (SELECT 'hidden' AS word) n",
            "denied",
            "secrets",
        ),
        query(
            "USING a column that is not granted",
            "program",
            "SELECT other.id FROM other JOIN (SELECT 'o' AS secret) n USING (secret)",
            "denied",
            "other",
        ),
        query(
            "NATURAL, between two that are not granted",
            "program",
            "SELECT 1 FROM secrets NATURAL JOIN withheld",
            "denied",
            "secrets",
        ),
        query(
            "USING in a subquery",
            "program",
            "SELECT 1 WHERE EXISTS (SELECT 1 FROM secrets s JOIN things t USING (id))",
            "denied",
            "secrets",
        ),
        execute(
            "copies a table as a whole",
            AUTHORIZER,
            "INSERT INTO copied SELECT * FROM secrets",
            "denied",
            "denied",
        ),
        execute(
            "REPLACE INTO what it may only add to",
            AUTHORIZER,
            "REPLACE INTO other (id, secret) VALUES (1, 'x')",
            "denied",
            "other",
        ),
        execute(
            "REPLACE whose trigger would replace elsewhere",
            AUTHORIZER,
            "INSERT OR REPLACE INTO things (name) VALUES ('logged')",
            "denied",
            "REPLACE could delete rows of log",
        ),
        execute(
            "a command to a full-text index",
            AUTHORIZER,
            "INSERT INTO found (found) VALUES ('delete-all')",
            "denied",
            "found",
        ),
        query(
            "the words of an index it may not read",
            AUTHORIZER,
            "SELECT 1 FROM found('hidden')",
            "denied",
            "found",
        ),
        query(
            "highlight",
            "allowlist",
            "SELECT highlight(found, 0, '', '') FROM found",
            "denied",
            "square of a document",
        ),
        query(
            "json_pretty",
            "allowlist",
            "SELECT json_pretty('[]')",
            "denied",
            "depth of the document",
        ),
        query(
            "a function of a later SQLite",
            "allowlist",
            "SELECT sqlite_compileoption_used('X')",
            "denied",
            "worst case",
        ),
        query(
            "unhex of a long text with long separators",
            "linear function",
            "SELECT unhex(hex(zeroblob(100000)), replace(hex(zeroblob(20000)), '0', 'y')) IS NULL",
            "ok",
            "0",
        ),
        query(
            "concat of a long text, many times",
            LIMIT,
            &format!("SELECT length(concat({}))", vec!["a"; 300].join(", "))
                .replace("))", ")) FROM (SELECT hex(zeroblob(2000000)) AS a)"),
            "limit",
            "computed expressions",
        ),
        query(
            "json_extract of many paths",
            LIMIT,
            &format!(
                "SELECT json_extract(a, {}) FROM (SELECT '[' || replace(hex(zeroblob(1000000)), '0', '1,') || '1]' AS a)",
                vec!["'$[#-1]'"; 400].join(", ")
            ),
            "limit",
            "computed expressions",
        ),
        query(
            "600 arguments",
            LIMIT,
            &format!("SELECT max({})", vec!["1"; 600].join(", ")),
            "sql",
            "too many arguments",
        ),
        query(
            "a join that takes the planner long",
            DEADLINE,
            &format!(
                "SELECT 1 FROM things t0 {}",
                (1..63).map(|n| format!("NATURAL JOIN things t{n}")).collect::<Vec<_>>().join(" ")
            ),
            "deadline",
            "250 ms",
        ),
        query(
            "WITHs that double",
            DEADLINE,
            &format!(
                "WITH w0 AS (SELECT 1 AS x), {} SELECT count(*) FROM w40",
                (1..=40)
                    .map(|n| format!("w{n} AS (SELECT a.x FROM w{0} a, w{0} b)", n - 1))
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
            "sql",
            "nested too deep",
        ),
        query(
            "LIKE on numbers",
            DEADLINE,
            "WITH RECURSIVE n(i) AS (SELECT 1.5 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n WHERE i LIKE '%x'",
            "deadline",
            "250 ms",
        ),
        execute(
            "a trigger of the app that writes elsewhere fires all the same",
            "(allowed)",
            "INSERT INTO things (name) VALUES ('logged')",
            "ok",
            "1",
        ),
    ]
}

fn other_cases() -> Vec<Case> {
    let step = |step: Json| json!([step]);
    let event = |fields: Json| {
        let mut event = json!({"action": "thing.done"});
        event.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        json!([["audit", [event]]])
    };
    vec![
        case("an infinite loop", DEADLINE, step(json!(["spin"])), DEADLINE, "250 ms"),
        case(
            "host calls for ever",
            DEADLINE,
            step(json!(["until-refused", ["now"]])),
            DEADLINE,
            "250 ms",
        ),
        case(
            "log lines for ever",
            DEADLINE,
            step(json!(["until-refused", ["log", "info", "x"]])),
            DEADLINE,
            "250 ms",
        ),
        case(
            "checkpoints for ever",
            DEADLINE,
            step(json!(["until-refused", ["checkpoint"]])),
            DEADLINE,
            "250 ms",
        ),
        case(
            "recursion on the machine's stack",
            "wasm stack",
            step(json!(["recurse"])),
            "trap",
            "stack",
        ),
        case(
            "recursion on its own stack",
            "wasm memory",
            step(json!(["recurse-in-memory"])),
            "trap",
            "memory",
        ),
        case("memory until it aborts", "memory limit", step(json!(["eat"])), "memory", "8192 KiB"),
        case("memory.grow until it is refused", "memory limit", step(json!(["grow"])), "ok", ""),
        case("a trap", "instance", step(json!(["trap"])), "trap", "unreachable"),
        case(
            "a result that is no JSON",
            BOUND,
            step(json!(["done-with", "{"])),
            "invalid-result",
            "JSON",
        ),
        case(
            "a result of 1.1 MB",
            BOUND,
            step(json!(["done-with", {"x": 1_100_000}])),
            "invalid-result",
            "1048576",
        ),
        case(
            "jobs for ever",
            BOUND,
            step(json!(["until-refused", ["enqueue", [["puppet", {"do": []}, LATER]]]])),
            "limit",
            "5 jobs",
        ),
        case(
            "10,000 jobs in one call",
            BOUND,
            step(json!(["enqueue", {"times": 10_000, "job": ["puppet", "{}", LATER]}])),
            "limit",
            "5 jobs",
        ),
        case(
            "a job of 1.5 MB",
            BOUND,
            step(json!(["enqueue", [["puppet", {"x": 1_500_000}, LATER]]])),
            "limit",
            "1048576 bytes of jobs",
        ),
        case(
            "a job whose args nest 300 deep",
            BOUND,
            step(json!(["enqueue", [["puppet", format!("{{\"a\":{}", "[".repeat(300)), LATER]]])),
            "invalid",
            "the args are no JSON",
        ),
        case(
            "a job for a worker it was not granted",
            "grant",
            step(json!(["enqueue", [["noop", "{}", LATER]]])),
            "denied",
            "jobs for worker `noop`",
        ),
        case(
            "a job in another's name",
            "scope",
            step(json!(["enqueue", [["puppet", "{\"actor_id\": \"ceo\"}", LATER]]])),
            "denied",
            "`actor_id`",
        ),
        case(
            "state beyond its bytes",
            BOUND,
            step(json!(["set-state", "k", {"x": 2_000}])),
            "limit",
            "1000 bytes of state",
        ),
        case(
            "a key of state of 200 bytes",
            BOUND,
            step(json!(["state", {"x": 200}])),
            "invalid",
            "1 to 128 bytes",
        ),
        case(
            "a failure in the words of a lost lease",
            "the host's own",
            step(json!(["failed", "mine", "lease-lost"])),
            "failed",
            "mine",
        ),
        case(
            "a snooze of no time",
            BOUND,
            step(json!(["snooze", 0])),
            "invalid-result",
            "1 second",
        ),
        case("a snooze for ever", "(its own job)", step(json!(["snooze", u64::MAX])), "ok", ""),
        case(
            "SQL of 3 MB",
            LIMIT,
            step(json!(["execute", {"x": 3_000_000}, []])),
            "limit",
            "too long",
        ),
        case(
            "a message of 9 MB",
            "hostcall fuel",
            step(json!(["publish", "t", {"x": 5_000_000}])),
            "limit",
            "",
        ),
        case(
            "parameters of 3 MB",
            BOUND,
            step(json!(["execute", "INSERT INTO things (value) VALUES (?1)", [{"x": 3_000_000}]])),
            "limit",
            "parameters",
        ),
        case(
            "parameter sets without end",
            BOUND,
            step(json!(["many", "INSERT INTO things (value) VALUES (?1)"])),
            "limit",
            "2000 statements",
        ),
        case(
            "one parameter too many",
            BOUND,
            step(json!(["execute", "SELECT ?1", [1, 2]])),
            "sql",
            "parameters",
        ),
        case(
            "more statements than granted",
            BOUND,
            step(json!(["until-refused", ["execute", "DELETE FROM things WHERE id = 0", []]])),
            "limit",
            "2000 statements",
        ),
        case(
            "a cursor after its checkpoint",
            "handles",
            json!([["open", "SELECT 1", []], ["checkpoint"], ["next", 0, 1]]),
            "closed",
            "closed",
        ),
        case(
            "a cursor after its rollback",
            "handles",
            json!([["savepoint"], ["open", "SELECT 1", []], ["rollback", 0], ["next", 0, 1]]),
            "closed",
            "closed",
        ),
        case("a cursor that is not there", "handles", step(json!(["next", 7, 1])), "trap", "trap"),
        case(
            "a chunk of no rows",
            BOUND,
            json!([["open", "SELECT 1", []], ["next", 0, 0]]),
            "invalid",
            "at least 1",
        ),
        case(
            "cursors without end",
            BOUND,
            step(json!(["until-refused", ["open", "SELECT 1", []]])),
            "limit",
            "64 cursors",
        ),
        case(
            "savepoints without end",
            BOUND,
            step(json!(["until-refused", ["savepoint"]])),
            "limit",
            "32 savepoints",
        ),
        case(
            "a savepoint released twice",
            "handles",
            json!([["savepoint"], ["release", 0], ["release", 0]]),
            "closed",
            "closed",
        ),
        case(
            "messages without end",
            BOUND,
            step(json!(["until-refused", ["publish", "t", "1"]])),
            "limit",
            "100 messages",
        ),
        case(
            "a message of 300 KB",
            BOUND,
            step(json!(["publish", "t", {"x": 300_000}])),
            "limit",
            "256 KiB",
        ),
        case(
            "a message that is no JSON",
            BOUND,
            step(json!(["publish", "t", "{"])),
            "invalid",
            "JSON",
        ),
        case(
            "a topic of 1 KB",
            BOUND,
            step(json!(["publish", {"x": 1_000}, "1"])),
            "invalid",
            "topic",
        ),
        case(
            "audit rows without end",
            BOUND,
            step(json!(["until-refused", ["audit", [{"action": "thing.done"}]]])),
            "limit",
            "100 audit rows",
        ),
        case(
            "an audit action with a line break",
            "audit rules",
            event(json!({"action": "thing.done\nadmin.made"})),
            "invalid",
            "action",
        ),
        case(
            "audit metadata of 9 KB",
            "audit rules",
            event(json!({"metadata": {"x": 9_000}})),
            "invalid",
            "metadata",
        ),
        case(
            "a secret in audit metadata",
            "audit rules",
            event(json!({"metadata": "{\"a\":{\"password\":\"x\"}}"})),
            "invalid",
            "password",
        ),
        case(
            "a capability that is not granted",
            "grant",
            step(json!(["call", "mailer", "{}"])),
            "denied",
            "mailer",
        ),
        case(
            "a capability with no JSON",
            BOUND,
            step(json!(["call", "echo", "{"])),
            "invalid",
            "JSON",
        ),
        case(
            "a capability that panics",
            "catch_unwind",
            step(json!(["call", "broken", "{\"how\": \"panics\"}"])),
            "capability",
            "panicked",
        ),
    ]
}

/// `many` is spelled out: the puppet knows `execute-many`.
fn spelled(steps: &Json) -> Json {
    let steps = steps.as_array().unwrap().iter().map(|step| match step[0].as_str() {
        Some("many") => {
            let sets = vec![json!([1]); 100];
            json!(["until-refused", ["execute-many", step[1], sets]])
        }
        _ => step.clone(),
    });
    steps.collect()
}

fn open(time: Duration) -> TestVerger {
    let grant = Grant::new()
        .write("things")
        .read_columns("other", ["id"])
        .capability("echo")
        .capability("broken");
    let test = Kind::Component.open_with(
        grant.limits(
            Limits::new()
                .time(time)
                .write_lock(time)
                .memory_bytes(8 << 20)
                .sql_memory_bytes(64 << 20)
                .chunk_bytes(2 << 20)
                .statements(2_000)
                .audit_rows(100)
                .events(100)
                .jobs(5)
                .job_bytes(1 << 20)
                .state_bytes(1_000),
        ),
    );
    test.sql(
        "CREATE TABLE secrets (id INTEGER PRIMARY KEY, word TEXT); INSERT INTO secrets VALUES (1, 'hidden');
         CREATE VIEW secret_words AS SELECT word FROM secrets;
         CREATE TABLE log (what TEXT);
         CREATE TRIGGER things_logged AFTER INSERT ON things WHEN NEW.name = 'logged' BEGIN INSERT INTO log VALUES ('logged'); END;
         CREATE VIRTUAL TABLE found USING fts5(word);
         CREATE INDEX things_by_name ON things (name);
         CREATE INDEX things_1 ON things (name, value); CREATE INDEX things_2 ON things (value, name);
         CREATE INDEX things_3 ON things (value, id); CREATE INDEX things_4 ON things (name, value, id);
         CREATE INDEX things_5 ON things (value, name, id); CREATE TABLE copied (id INTEGER PRIMARY KEY, word TEXT);",
    );
    test
}

/// By itself, for on a busy machine 250 ms are too short to take so much.
#[test]
fn a_sort_of_everything_is_ended_by_its_memory() {
    let limits = Limits::new().time(Duration::from_secs(60)).sql_memory_bytes(64 << 20);
    let limits = limits.write_lock(Duration::from_secs(60));
    let test = Kind::Component.open_with(Grant::new().limits(limits));
    let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT hex(zeroblob(500000)) AS b FROM n ORDER BY b";
    let (code, message) = ended(&test, "a sort of everything", &json!([["query", sql, []]]));
    assert_eq!(code, "limit", "{message}");
    assert!(message.contains("MiB of memory"), "{message}");
}

/// The code and the message of a case's last step, or of the attempt.
fn ended(test: &TestVerger, tried: &str, steps: &Json) -> (String, String) {
    match test.perform_job("puppet", json!({ "do": spelled(steps) })) {
        Ok(performed) => {
            let answers = performed.result().cloned().unwrap_or_default();
            let last =
                answers.as_array().and_then(|answers| answers.last().cloned()).unwrap_or_default();
            match last["err"].as_str() {
                Some(code) => {
                    (code.to_string(), last["message"].as_str().unwrap_or_default().to_string())
                }
                None => ("ok".to_string(), last["ok"].to_string()),
            }
        }
        Err(PerformError::Failed { source, .. }) => (source.code, source.message),
        Err(other) => panic!("{tried}: {other}"),
    }
}

#[test]
fn each_misdeed_is_stopped_by_its_wall_and_named() {
    let (short, long) = (open(Duration::from_millis(250)), open(Duration::from_secs(30)));
    let cases: Vec<Case> = sql_cases().into_iter().chain(other_cases()).collect();
    assert!(cases.len() >= 60);
    let before = short.rows("SELECT * FROM secrets");
    let mut table = Table::new();
    for Case { tried, wall, steps, code, names } in &cases {
        // On a busy machine another wall may be too far for so little time.
        let test = if *code == DEADLINE { &short } else { &long };
        let (got, message) = ended(test, tried, steps);
        table.row(tried, wall, (code, names), &got, &message);
        assert!(!message.contains("hidden"), "{tried}: {message}");
        assert_eq!(test.rows("SELECT * FROM secrets"), before, "{tried}");
        let done = test.enqueue(job(json!([["query", "SELECT 1", []]]))).unwrap().id;
        test.drain();
        assert_eq!(row(test, done).result, Some(json!([{"ok": [[1]]}])), "after: {tried}");
    }
    table.close();
}

#[test]
fn each_component_that_breaks_the_rules_is_refused_or_stopped() {
    let mut table = Table::new();
    for handmade::cases::Case { tried, wall, component, code, names } in handmade::cases::all() {
        let limits = Limits::new().time(Duration::from_millis(250)).memory_bytes(8 << 20);
        let builder = verger::Verger::in_memory()
            .component("handmade.wasm", component)
            .grant("handmade", Grant::new().limits(limits));
        let (got, message) = match TestVerger::open(
            Kind::Native.add(builder, common::grant()),
            &ManualClock::at(TestVerger::START),
        ) {
            Err(OpenError::Worker(reason)) => ("refused".to_string(), reason.to_string()),
            Err(other) => panic!("{tried}: {other}"),
            Ok(test) => {
                test.sql(common::TABLES);
                let ended = match test.perform_now("handmade", json!({})) {
                    Ok(_) => ("ok".to_string(), String::new()),
                    Err(PerformError::Failed { source, .. }) => (source.code, source.message),
                    Err(other) => panic!("{tried}: {other}"),
                };
                common::goes_on(&test);
                ended
            }
        };
        table.row(tried, wall, (code, names), &got, &message);
    }
    table.close();
}

#[test]
fn a_grant_for_one_file_is_not_taken_by_another() {
    let test = open(Duration::from_millis(250));
    let digest = test.digest("puppet").unwrap().unwrap();
    assert_eq!(digest.len(), 64);
    let with = |digest: &str, kind: Kind| {
        TestVerger::open(
            kind.add(verger::Verger::in_memory(), common::grant().for_digest(digest)),
            &verger::testing::ManualClock::at(TestVerger::START),
        )
    };
    assert!(with(&digest.to_uppercase(), Kind::Component).is_ok());
    for (other, kind) in [("00".repeat(32), Kind::Component), (digest.clone(), Kind::Native)] {
        let refused = with(&other, kind).unwrap_err().to_string();
        assert!(
            refused.contains("SHA-256") && refused.contains(&other) && refused.contains("puppet"),
            "{refused}"
        );
    }
}

#[test]
fn what_a_worker_wants_more_is_reported_and_not_taken() {
    let test = common::puppet();
    let withheld = test.withheld();
    assert_eq!(withheld.len(), 1);
    assert_eq!(
        withheld[0].to_string(),
        "worker `puppet` asks for what it is not granted: read on table withheld; jobs for worker `noop`; jobs for worker `other-worker`; jobs for worker `withheld-worker`"
    );
    let answer = common::answers(&test, json!([["query", "SELECT * FROM withheld", []]]));
    assert_eq!(answer[0]["err"], "denied");
}
