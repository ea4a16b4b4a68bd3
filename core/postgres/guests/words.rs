//! The second wall around a component's statements: they call only functions that compute.
//!
//! The first is the server's: a role touches what it was granted. But the server gives some
//! functions to every role, and on most servers nobody can take them back: to wait, to write large
//! objects, to notify, to lock, to change a setting, to look into the catalog. So a name before a
//! parenthesis must be on a list, and some names must not occur at all. What is not understood is
//! refused.

use crate::postgres::sql_text::{Piece, pieces};

/// What may stand before a parenthesis and calls nothing.
const KEYWORDS: &[&str] = &[
    "all",
    "and",
    "any",
    "array",
    "as",
    "between",
    "by",
    "case",
    "cast",
    "conflict",
    "cube",
    "delete",
    "distinct",
    "else",
    "end",
    "escape",
    "except",
    "exists",
    "fetch",
    "filter",
    "first",
    "from",
    "full",
    "group",
    "grouping",
    "having",
    "in",
    "inner",
    "insert",
    "intersect",
    "interval",
    "is",
    "join",
    "last",
    "lateral",
    "left",
    "like",
    "limit",
    "materialized",
    "next",
    "not",
    "offset",
    "on",
    "only",
    "or",
    "order",
    "over",
    "partition",
    "range",
    "recursive",
    "returning",
    "right",
    "rollup",
    "row",
    "rows",
    "select",
    "set",
    "sets",
    "some",
    "then",
    "union",
    "update",
    "using",
    "values",
    "when",
    "where",
    "window",
    "with",
];

/// The types that take a length.
const TYPES: &[&str] = &[
    "bigint",
    "bit",
    "boolean",
    "char",
    "character",
    "date",
    "decimal",
    "float",
    "int",
    "integer",
    "numeric",
    "real",
    "smallint",
    "text",
    "time",
    "timestamp",
    "timestamptz",
    "uuid",
    "varchar",
    "varying",
];

/// Functions that compute from what they are given, and nothing else.
const FUNCTIONS: &[&str] = &[
    "abs",
    "array_agg",
    "array_length",
    "array_position",
    "array_to_string",
    "ascii",
    "avg",
    "bit_and",
    "bit_length",
    "bit_or",
    "bool_and",
    "bool_or",
    "btrim",
    "cardinality",
    "ceil",
    "ceiling",
    "char_length",
    "character_length",
    "chr",
    "coalesce",
    "concat",
    "concat_ws",
    "corr",
    "count",
    "cume_dist",
    "date_part",
    "date_trunc",
    "datetime",
    "decode",
    "dense_rank",
    "div",
    "encode",
    "every",
    "exp",
    "extract",
    "first_value",
    "floor",
    "format",
    "generate_series",
    "greatest",
    "group_concat",
    "hex",
    "ifnull",
    "iif",
    "initcap",
    "instr",
    "isfinite",
    "json_agg",
    "json_array",
    "json_array_elements",
    "json_array_elements_text",
    "json_array_length",
    "json_build_array",
    "json_build_object",
    "json_each",
    "json_each_text",
    "json_extract",
    "json_extract_path",
    "json_extract_path_text",
    "json_object",
    "json_object_agg",
    "json_object_keys",
    "json_type",
    "json_typeof",
    "json_valid",
    "jsonb_agg",
    "jsonb_array_elements",
    "jsonb_array_elements_text",
    "jsonb_array_length",
    "jsonb_build_array",
    "jsonb_build_object",
    "jsonb_each",
    "jsonb_each_text",
    "jsonb_exists",
    "jsonb_extract_path",
    "jsonb_extract_path_text",
    "jsonb_object_agg",
    "jsonb_object_keys",
    "jsonb_set",
    "jsonb_strip_nulls",
    "jsonb_typeof",
    "julianday",
    "lag",
    "last_value",
    "lead",
    "least",
    "length",
    "ln",
    "log",
    "lower",
    "lpad",
    "ltrim",
    "make_date",
    "make_interval",
    "make_time",
    "make_timestamp",
    "make_timestamptz",
    "max",
    "md5",
    "min",
    "mod",
    "mode",
    "nth_value",
    "ntile",
    "nullif",
    "num_nonnulls",
    "num_nulls",
    "octet_length",
    "overlay",
    "percent_rank",
    "percentile_cont",
    "percentile_disc",
    "position",
    "pow",
    "power",
    "printf",
    "quote",
    "random",
    "rank",
    "regexp_like",
    "regexp_match",
    "regexp_replace",
    "regexp_split_to_array",
    "repeat",
    "replace",
    "reverse",
    "round",
    "row_number",
    "row_to_json",
    "rpad",
    "rtrim",
    "sha256",
    "sign",
    "split_part",
    "sqrt",
    "starts_with",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "strftime",
    "string_agg",
    "string_to_array",
    "strpos",
    "substr",
    "substring",
    "sum",
    "to_char",
    "to_date",
    "to_json",
    "to_jsonb",
    "to_number",
    "to_timestamp",
    "total",
    "translate",
    "trim",
    "trunc",
    "typeof",
    "unicode",
    "unixepoch",
    "unnest",
    "upper",
    "var_pop",
    "var_samp",
    "variance",
    "width_bucket",
];

/// Words behind which a name and a parenthesis are a table or an alias with its columns.
const BEFORE_COLUMNS: &[&str] = &["into", "as", "with", "recursive"];

/// What begins with one of these belongs to the server or to Verger.
const OTHERS: &[&str] = &["pg_", "verger", "information_schema"];

/// Types that look names up in the catalog.
const CATALOG: &[&str] = &[
    "regclass",
    "regcollation",
    "regconfig",
    "regdictionary",
    "regnamespace",
    "regoper",
    "regoperator",
    "regproc",
    "regprocedure",
    "regrole",
    "regtype",
];

/// The server's clock. Verger's is the one a worker reads.
const CLOCK: &[&str] =
    &["current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"];

/// Why a component may not send a statement, or `None` if it may. `knows` says that the worker was
/// written for this server too.
pub(in crate::postgres) fn refused(sql: &str, knows: bool) -> Option<String> {
    let is_blank = |piece: &Piece<'_>| matches!(piece, Piece::Blank(_));
    let adjacent: Vec<Piece<'_>> = pieces(sql).collect();
    let unicode = adjacent.windows(3).any(|three| match three {
        [Piece::Word(word), Piece::Other("&"), Piece::Text(_) | Piece::Quoted(_)] => {
            word.eq_ignore_ascii_case("u")
        }
        _ => false,
    });
    if unicode {
        return Some("U&'…' and U&\"…\" are not for components: write the character".to_string());
    }
    let pieces: Vec<Piece<'_>> = adjacent.into_iter().filter(|piece| !is_blank(piece)).collect();
    (0..pieces.len()).find_map(|place| refused_at(&pieces, place, knows))
}

fn refused_at(pieces: &[Piece<'_>], place: usize, knows: bool) -> Option<String> {
    let name = match pieces[place] {
        Piece::OwnText(_) => {
            return Some("E'…' and $$…$$ are not for components: write '…'".to_string());
        }
        Piece::Word(word) => word.to_ascii_lowercase(),
        Piece::Quoted(quoted) => {
            let inside = quoted.strip_prefix('"').unwrap_or(quoted);
            inside.strip_suffix('"').unwrap_or(inside).replace("\"\"", "\"")
        }
        _ => return None,
    };
    if OTHERS.iter().any(|prefix| name.to_ascii_lowercase().starts_with(prefix)) {
        return Some(format!(
            "{name} is not for components: it belongs to the server, or to Verger"
        ));
    }
    if matches!(pieces[place], Piece::Word(_)) {
        let name = name.as_str();
        if CATALOG.contains(&name) {
            return Some(format!("{name} is not for components: it looks into the catalog"));
        }
        if CLOCK.contains(&name) {
            return Some(format!(
                "{name} is not for components: bind the time of the clock interface"
            ));
        }
        if name == "like" && !knows {
            return Some("LIKE ignores case on SQLite and does not on PostgreSQL: a worker whose manifest says that its SQL is for both may use it".to_string());
        }
    }
    if !matches!(pieces.get(place + 1), Some(Piece::Other("("))) {
        return None;
    }
    let (first, is_qualified) = beginning(pieces, place);
    let before = first.checked_sub(1).and_then(|before| pieces.get(before));
    let has_columns = matches!(before, Some(Piece::Word(word)) if is_one_of(BEFORE_COLUMNS, word));
    let is_word = matches!(pieces[place], Piece::Word(_));
    let calls_nothing = !is_qualified && is_word && is_one_of(KEYWORDS, &name);
    let computes = !is_qualified && [FUNCTIONS, TYPES].iter().any(|list| list.contains(&&*name));
    if has_columns || calls_nothing || computes {
        return None;
    }
    Some(format!("the function {name} is not for components: they call those that only compute"))
}

/// Where a name begins that ends here, and whether it has more than one part: `app.orders`.
fn beginning(pieces: &[Piece<'_>], place: usize) -> (usize, bool) {
    let mut first = place;
    while let Some([Piece::Word(_) | Piece::Quoted(_), Piece::Other(".")]) =
        first.checked_sub(2).map(|before| &pieces[before..first])
    {
        first -= 2;
    }
    let follows_a_dot =
        first.checked_sub(1).is_some_and(|before| pieces[before] == Piece::Other("."));
    (first, first < place || follows_a_dot)
}

fn is_one_of(words: &[&str], word: &str) -> bool {
    words.iter().any(|known| known.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn honest_statements_pass() {
        for sql in [
            "SELECT count(*), sum(total) FROM orders WHERE state IN ('open') AND id IS ?1",
            "INSERT INTO orders (id, state) VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET state = excluded.state",
            "INSERT INTO app.orders (id) SELECT id FROM (SELECT 1 AS id) AS of (id)",
            "WITH old (id) AS (SELECT id FROM orders WHERE at < ?1), more AS MATERIALIZED (SELECT 1) DELETE FROM orders WHERE id IN (SELECT id FROM old)",
            "UPDATE orders SET (a, b) = (?1, ?2) WHERE NOT EXISTS (SELECT 1 FROM x WHERE (x.a, x.b) = (1, 2))",
            "SELECT CAST(total AS numeric(10, 2)), 'pg_sleep(1)', row_number() OVER (PARTITION BY a ORDER BY b) FROM t /* pg_class */",
            "SELECT a FROM t WHERE a ILIKE ?1",
            "SELECT date(?1), COALESCE (a, b), \"count\"(*) FROM t",
        ] {
            assert_eq!(refused(sql, false), None, "{sql}");
        }
        assert_eq!(refused("SELECT 1 FROM t WHERE a LIKE 'x'", true), None);
    }

    #[test]
    fn what_reaches_further_is_refused() {
        for sql in [
            "SELECT set_config('role', 'app', false)",
            "SELECT /**/ set_config /**/ ('role', 'app', false)",
            "SELECT \"set_config\"('role', 'app', false)",
            "SELECT \"set_config\" -- x\n ('role', 'app', false)",
            "SELECT SET_CONFIG('role', 'app', false)",
            "SELECT pg_catalog . set_config('role', 'app', false)",
            "SELECT app.count(1)",
            "SELECT app . \"count\" (1)",
            "SELECT lo_create(0)",
            "SELECT dblink('host=x', 'SELECT 1')",
            "SELECT * FROM dblink('host=x', 'SELECT 1') AS t (a int)",
            "SELECT 1, evil (2)",
            "SELECT (1), evil(2)",
            "SELECT pg_sleep(10)",
            "SELECT 1 OPERATOR(pg_catalog.+) 1",
            "SELECT 1 OPERATOR (app.+) 1",
            "SELECT * FROM pg_class",
            "SELECT * FROM \"pg_class\"",
            "SELECT * FROM information_schema.tables",
            "SELECT * FROM verger.jobs",
            "SELECT verger_run.tenant()",
            "SELECT 'orders'::regclass",
            "SELECT current_timestamp",
            "SELECT now()",
            "SELECT E'\\'' || set_config('role', 'app', false) --'",
            "SELECT $$x$$",
            "SELECT U&\"\\0070g_sleep\"(1)",
            "SELECT u&'\\0061'",
            "SELECT * FROM t TABLESAMPLE system (10)",
            "SELECT query_to_xml('SELECT 1', true, false, '')",
            "SELECT currval('s'), nextval('s')",
            "SELECT a FROM t WHERE a LIKE ?1",
        ] {
            assert!(refused(sql, false).is_some(), "{sql}");
        }
    }
}
