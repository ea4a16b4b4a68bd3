//! What a component tries that it may not, and what it is told.

use serde_json::{Value as Json, json};
use verger::AttemptOutcome;

use super::{answer, answers, attempt, puppet, usual};

/// What is refused by the rights of its role.
const BY_THE_ROLE: &[&str] = &[
    "SELECT * FROM secrets",
    "SELECT (SELECT secret FROM secrets LIMIT 1)",
    "SELECT secret FROM other",
    "SELECT * FROM other",
    "SELECT o FROM other AS o",
    "UPDATE other SET id = 2",
    "DELETE FROM other",
    "INSERT INTO other (id) VALUES (3)",
    "INSERT INTO secrets SELECT 9, 'x'",
    "WITH gone AS (DELETE FROM secrets RETURNING *) SELECT * FROM gone",
    "SELECT * FROM withheld",
    "SELECT * FROM things JOIN secrets USING (id)",
    "MERGE INTO secrets AS s USING things AS t ON s.id = t.id WHEN MATCHED THEN DELETE",
    "INSERT INTO things (name) SELECT secret FROM secrets",
    "UPDATE things SET name = (SELECT secret FROM secrets)",
    "SELECT id FROM other FOR UPDATE",
];

/// What no grant speaks of.
const BY_ITS_WORDS: &[&str] = &[
    "SELECT set_config('role', 'postgres', false)",
    "SELECT set_config('statement_timeout', '0', false)",
    "SELECT \"set_config\" ('search_path', 'pg_temp', false)",
    "SELECT current_setting('data_directory')",
    "SELECT lo_create(0)",
    "SELECT lo_from_bytea(0, 'x')",
    "SELECT pg_notify('verger', 'x')",
    "SELECT pg_advisory_lock(1)",
    "SELECT pg_sleep(60)",
    "SELECT pg_terminate_backend(1)",
    "SELECT pg_read_file('/etc/passwd')",
    "SELECT query_to_xml('SELECT * FROM secrets', true, false, '')",
    "SELECT table_to_xml('secrets', true, false, '')",
    "SELECT * FROM pg_class",
    "SELECT * FROM pg_stat_activity",
    "SELECT * FROM information_schema.tables",
    "SELECT * FROM verger.jobs",
    "UPDATE verger.jobs SET state = 'completed'",
    "DELETE FROM verger.audit",
    "SELECT verger.enqueue('puppet', '{}')",
    "SELECT verger_run.tenant()",
    "SELECT 'secrets'::regclass::oid",
    "SELECT now()",
    "SELECT current_timestamp",
    "SELECT E'\\'' || set_config('role', 'postgres', false) --'",
    "SELECT nextval('things_id_seq')",
    // A function of one argument can be called as a column of it is named.
    "SELECT ('server_version'::text).current_setting",
    "SELECT (1).lo_creat",
    "SELECT s.lo_creat FROM generate_series(1, 1) AS s",
    "SELECT CAST(('SELECT array_to_tsvector(array[set_config(''search_path'', ''x'', false)])'::text).ts_stat AS text)",
    "SELECT ('x'::text).app_secret",
    "SELECT t.row_secret FROM things AS t",
    "SELECT app_secret('x')",
    // What an app's function calls is not in the tree: in an aggregate, and in a default.
    "SELECT bad_agg(name) FROM things",
    "SELECT sum_of(name) OVER () FROM things",
    "SELECT with_default()",
    "SELECT doubled(n) FROM things",
    "SELECT CAST(t AS text) FROM XMLTABLE('/a' PASSING (xml '<a>1260</a>') COLUMNS x regclass PATH '.') AS t",
    "SELECT satisfies_hash_partition(1260::oid, 1, 0, 1)",
    "SELECT acldefault('r', 10::oid)::text",
    "SELECT CAST(NULL::pg_sequences AS text)",
    "SELECT xpath('/a', '<a/>')",
    "SELECT 'secrets'::\"regclass\"",
    "SELECT '{secrets}'::_regclass",
    "SELECT '{secrets}'::regclass[]",
    "SELECT CAST(16::oid AS regtype)",
    "SELECT \"pg_sleep\"(1)",
    "SELECT pg_catalog . pg_sleep(1)",
    "SELECT 1 WHERE 1 OPERATOR(public.!!!) 2",
    "SELECT U&\"\\0070g_sleep\"(1)",
    "SELECT * FROM things TABLESAMPLE system (10)",
    "SELECT current_user",
    "SELECT localtimestamp",
    "SELECT xmlparse(DOCUMENT '<a/>')",
    "SELECT name FROM things ORDER BY (name).app_secret",
    "INSERT INTO things (name) VALUES (('x'::text).app_secret)",
    "UPDATE things SET n = (1).lo_creat",
    "DELETE FROM things WHERE pg_try_advisory_lock(1)",
    "WITH a AS (SELECT pg_backend_pid()) SELECT 1 FROM a",
    "SELECT count(*) FILTER (WHERE pg_sleep(1) IS NULL) FROM things",
    "SELECT sum(n) OVER (ORDER BY (1).lo_creat) FROM things",
    "SELECT id, name, (1) insert INTO TEMP things FROM things",
    "WITH a AS (SELECT 1) SELECT (2) merge INTO TEMP y FROM a",
    "SELECT 1 INTO TEMP x",
    "SELECT id INTO x FROM things",
    "SELECT * FROM things WHERE name LIKE 'A%'",
];

/// What is no statement on rows.
const BY_THE_GRAMMAR: &[&str] = &[
    "COMMIT",
    "/* x */ ROLLBACK",
    "SET ROLE postgres",
    "RESET ROLE",
    "SET SESSION AUTHORIZATION postgres",
    "SET statement_timeout = 0",
    "DO 'BEGIN PERFORM 1; END'",
    "CREATE TEMP TABLE x (a int)",
    "CREATE TABLE x (a int)",
    "DROP TABLE things",
    "TRUNCATE things",
    "COPY things TO PROGRAM 'cat'",
    "COPY things TO STDOUT",
    "LISTEN x",
    "LOCK TABLE things",
    "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
    "CALL x()",
    "EXPLAIN SELECT 1",
    "PREPARE x AS SELECT 1",
    "EXECUTE x",
    "DEALLOCATE ALL",
    "DISCARD ALL",
    "ALTER ROLE CURRENT_USER PASSWORD 'x'",
    "GRANT ALL ON things TO PUBLIC",
    "SAVEPOINT x",
    "SELECT 1; COMMIT",
    "SELECT 1; SELECT 2",
    "INSERT INTO things (name) VALUES ('x'); COMMIT",
    "",
    ";",
    "-- nothing",
    "SELECT 'open",
    "SELECT 1 /* open",
];

#[test]
fn each_wall_refuses_with_its_word_and_nothing_is_changed() {
    let Some((database, verger)) = puppet(usual()) else { return };
    // What an app may have that runs with the rights of its owner.
    let fill = "INSERT INTO things (name) VALUES ('kept'); \
         CREATE FUNCTION app_secret(text) RETURNS text LANGUAGE sql SECURITY DEFINER IMMUTABLE AS 'SELECT secret FROM secrets LIMIT 1'; \
         CREATE FUNCTION row_secret(things) RETURNS text LANGUAGE sql SECURITY DEFINER STABLE AS 'SELECT secret FROM secrets LIMIT 1'; \
         CREATE FUNCTION loud(int, int) RETURNS boolean LANGUAGE sql VOLATILE AS 'SELECT lo_create(0) IS NOT NULL'; \
         CREATE OPERATOR !!! (LEFTARG = int, RIGHTARG = int, FUNCTION = loud); \
         CREATE FUNCTION vol(text, text) RETURNS text LANGUAGE sql SECURITY DEFINER VOLATILE AS 'SELECT secret FROM secrets LIMIT 1'; \
         CREATE AGGREGATE bad_agg(text) (SFUNC = vol, STYPE = text); CREATE AGGREGATE sum_of(text) (SFUNC = vol, STYPE = text); \
         CREATE FUNCTION with_default(a text DEFAULT app_secret('x')) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT a'; \
         CREATE FUNCTION doubled(bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT 2 * $1'";
    database.client().batch_execute(fill).unwrap();
    for (statements, codes) in [
        (BY_THE_ROLE, &["denied"][..]),
        (BY_ITS_WORDS, &["denied"]),
        // Some have a word as well that is refused before the server reads them.
        (BY_THE_GRAMMAR, &["sql", "denied"]),
    ] {
        for sql in statements {
            let mut refused = 0;
            for how in ["query", "execute"] {
                let answer = answer(&verger, json!([how, sql, []]));
                // What returns rows is not executed, and the other way round, whoever asks.
                let is_other = answer["err"] == "invalid";
                let is_refused = codes.iter().any(|code| answer["err"] == *code);
                assert!(is_other || is_refused, "{how} {sql}: {answer}");
                refused += usize::from(!is_other);
                let message = answer["message"].as_str().unwrap();
                assert!(!message.contains("hidden"), "{sql}: {message}");
            }
            assert!(refused > 0, "{sql}");
        }
    }
    // Whatever was refused, the transaction goes on, and it still has its role.
    let after = answers(
        &verger,
        json!({}),
        json!([
            ["query", "SELECT * FROM secrets", []],
            ["query", "COMMIT", []],
            ["query", "SELECT pg_sleep(1)", []],
            ["query", "SELECT count(*) FROM things", []],
            // Once refused, refused again.
            ["query", "SELECT pg_sleep(1)", []],
            [
                "query",
                "SELECT 2 * ?1, upper(name), $a$x$a$, to_char(1.5, '9.9'), json_build_object('a', n) FROM things -- end",
                [4]
            ],
            ["query", "SELECT jsonb_path_query('[1, 2]'::jsonb, '$[*]')::text", []],
        ]),
    );
    assert_eq!(after[3], json!({"ok": [[1]]}));
    assert_eq!((&after[2]["err"], &after[4]["err"]), (&json!("denied"), &json!("denied")));
    assert_eq!(after[5]["ok"], json!([[8, "KEPT", "x", " 1.5", "{\"a\" : 0}"]]));
    assert_eq!(after[6]["ok"], json!([["1"], ["2"]]));
    assert_eq!(database.one::<i64>("SELECT count(*) FROM secrets"), 1);
    assert_eq!(database.one::<i64>("SELECT count(*) FROM other"), 1);
    let made = "SELECT count(*) FROM pg_class WHERE relname IN ('x', 'y') OR relpersistence = 't'";
    assert_eq!(database.one::<i64>(made), 0);
    assert_eq!(database.one::<i64>("SELECT count(*) FROM pg_largeobject_metadata"), 0);
    assert_eq!(verger.verify_audit().unwrap().rows, 0);
}

/// The functions that the engine's own statements go through are there for every role, and do
/// nothing without the secret of the session.
#[test]
fn the_functions_of_the_engine_want_its_secret() {
    let Some((database, verger)) = puppet(usual()) else { return };
    answer(&verger, json!(["query", "SELECT 1", []]));
    let role = format!("verger_{}_puppet", database.name);
    let url = format!("host={} user='{role}' dbname={}", database.cluster.socket(), database.name);
    let mut client = postgres::Client::connect(&url, postgres::NoTls).unwrap();
    let functions = "SELECT p.oid::regproc::text, array_to_string(ARRAY(SELECT 'NULL::' || format_type(t, NULL) \
         FROM unnest(p.proargtypes) AS t), ', ') FROM pg_proc AS p WHERE p.pronamespace = 'verger_run'::regnamespace AND p.proname <> 'tenant'";
    let functions = client.query(functions, &[]).unwrap();
    assert!(functions.len() > 15, "{} functions", functions.len());
    for row in functions {
        let (name, nulls): (String, String) = (row.get(0), row.get(1));
        let guessed = nulls.rsplit_once("NULL::bytea").unwrap().0.to_string() + "'\\x00'::bytea";
        for args in [nulls, guessed] {
            let error = client.query(&format!("SELECT * FROM {name}({args})"), &[]).unwrap_err();
            let error = error.as_db_error().unwrap().message().to_string();
            assert_eq!(error, "only the engine may do that", "{name}({args})");
        }
    }
    for sql in [
        "SELECT * FROM verger.jobs",
        "SELECT * FROM verger.guests",
        "SELECT verger.admit('x')",
        "SELECT * FROM secrets",
        "CREATE TABLE public.mine (a int)",
        "CREATE SCHEMA mine",
    ] {
        let error = client.batch_execute(sql).unwrap_err();
        assert_eq!(error.code().unwrap().code(), "42501", "{sql}: {error:?}");
    }
    let tenant: Option<String> =
        client.query_one("SELECT verger_run.tenant()", &[]).unwrap().get(0);
    assert_eq!(tenant, None);
}

/// What is bound, and what is said too much, is stopped as on the other store.
#[test]
fn bounds_hold() {
    let Some((_database, verger)) = puppet(usual()) else { return };
    let long = format!("SELECT 1 /* {} */", "x".repeat(100 << 10));
    let cases: [(Json, &str); 5] = [
        (json!(["query", long, []]), "limit"),
        (json!(["query", "SELECT ?1", []]), "sql"),
        (json!(["query", "SELECT ?1", [1, 2]]), "sql"),
        (json!(["execute", "SELECT 1", []]), "invalid"),
        (json!(["query", "UPDATE things SET n = 1", []]), "invalid"),
    ];
    for (step, code) in cases {
        let answer = answer(&verger, step.clone());
        assert_eq!(
            answer["err"],
            code,
            "{}: {answer}",
            step.to_string().get(..60).unwrap_or_default()
        );
    }
    // What the server sends at once is bounded, by whatever statement.
    answer(
        &verger,
        json!(["execute-many", "INSERT INTO things (name) VALUES (?1)", vec![json!(["x"]); 40]]),
    );
    for (how, sql) in [
        ("query", "SELECT repeat('x', 2000000) FROM things"),
        ("query", "UPDATE things SET n = 1 RETURNING repeat('x', 2000000)"),
        ("query", "SELECT repeat('x', 100000000)"),
    ] {
        let answers = answers(
            &verger,
            json!({}),
            json!([[how, sql, []], ["query", "SELECT count(*) FROM things WHERE n = 1", []]]),
        );
        assert_eq!(answers[0]["err"], "limit", "{sql}: {}", answers[0].to_string().len());
        assert_eq!(answers[1]["ok"], json!([[0]]), "{sql}: it goes on, and nothing was changed");
    }
    let (id, outcome) = attempt(&verger, json!({}), json!([["grow"], ["eat"]]));
    assert!(matches!(outcome, AttemptOutcome::Retryable(..)), "{outcome:?}");
    assert_eq!(verger.job(id).unwrap().unwrap().errors[0].code, "memory");
}
