//! Statements that are too large, or that never end by themselves.

use super::case::{BOUND, Case, DEADLINE, LIMIT, query};

pub(super) fn cases() -> Vec<Case> {
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
            "a recursive query without end",
            DEADLINE,
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
            DEADLINE,
            "250 ms",
        ),
        query("a row of many long values", BOUND, &blobs, "limit", "a row has more"),
        query("deeply nested expressions", LIMIT, &deep, "sql", "depth"),
        query("a compound of 80 SELECTs", LIMIT, &compound, "sql", "too many terms"),
        query("a text of 70,000 bytes", LIMIT, &long, "limit", "too long"),
        query("a join of 70 tables", LIMIT, &joins, "sql", "at most 64 tables"),
        query("2,100 columns", LIMIT, &columns, "sql", "too many columns"),
        query("a parameter of number 99999", LIMIT, variables, "sql", "variable number"),
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
            "WITHs that multiply",
            LIMIT,
            &format!(
                "WITH w0 AS (SELECT 1 AS x), {} SELECT count(*) FROM w14",
                (1..=14)
                    .map(|n| format!(
                        "w{n} AS (SELECT 1 AS x FROM {})",
                        vec![format!("w{}", n - 1); 6].join(", ")
                    ))
                    .collect::<Vec<_>>()
                    .join(", ")
            ),
            "sql",
            "nested too deep",
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
    ]
}
