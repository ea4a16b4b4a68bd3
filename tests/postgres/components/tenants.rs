//! A job of a tenant sees, changes and counts that tenant's rows only.

use serde_json::{Value as Json, json};
use verger::Grant;
use verger::postgres::Verger;

use super::{answers, open, under};
use crate::clock;
use crate::cluster::{Database, database};

fn manifest() -> Json {
    let all = json!(["read", "insert", "update", "delete"]);
    json!({
        "name": "puppet", "version": "1", "tenant_aware": true, "args": {"do": {"default": []}},
        "tables": [{"table": "orders", "verbs": all}, {"table": "rates", "verbs": ["read"]}],
    })
}

fn grant() -> Grant {
    Grant::new().write("orders").read("rates").tenant_column("org").shared("rates")
}

/// Orders of two tenants, whose ids have this type.
fn tenants(kind: &str, [one, other]: [&str; 2]) -> Option<(Database, Verger)> {
    let database = database()?;
    let tables = format!(
        "CREATE TABLE orders (id bigint PRIMARY KEY, org {kind}, total bigint CHECK (total >= 0)); \
         CREATE TABLE rates (n bigint); INSERT INTO rates VALUES (3); \
         INSERT INTO orders VALUES (1, '{one}', 10), (2, '{one}', 20), (3, '{other}', 5), (4, NULL, 7)"
    );
    database.client().batch_execute(&tables).unwrap();
    let builder = Verger::builder(database.url())
        .component("puppet", under(&manifest()))
        .grant("puppet", grant())
        .clock(clock());
    let verger = open(&database, builder);
    Some((database, verger))
}

fn scope(organization: Json) -> Json {
    json!({"organization_id": organization, "actor_id": null})
}

#[test]
fn rows_of_others_are_not_there() {
    for (kind, ids) in [
        ("text", ["acme", "bolt"]),
        ("varchar(4)", ["acme", "bolt"]),
        ("char(6)", ["acme", "bolt"]),
        ("bigint", ["7", "8"]),
        ("smallint", ["7", "8"]),
        ("numeric", ["7", "8"]),
        ("uuid", ["6f1d1a2e-0000-4000-8000-000000000001", "6f1d1a2e-0000-4000-8000-000000000002"]),
    ] {
        let Some((database, verger)) = tenants(kind, ids) else { return };
        let other = ids[1];
        let answers = answers(
            &verger,
            scope(json!(ids[0])),
            json!([
                ["query", "SELECT count(*), sum(total) FROM orders", []],
                ["query", "SELECT count(*) FROM public.orders", []],
                ["query", "SELECT n FROM rates", []],
                ["execute", "UPDATE orders SET total = total + 1", []],
                ["execute", "DELETE FROM orders WHERE id = 3", []],
                ["execute", "INSERT INTO orders (id, total) VALUES (9, 1)", []],
                ["execute", "INSERT INTO orders (id, org, total) VALUES (10, ?1, 1)", [other]],
                ["execute", "UPDATE orders SET org = ?1 WHERE id = 1", [other]],
                [
                    "execute",
                    "INSERT INTO orders (id, total) VALUES (3, 1) ON CONFLICT (id) DO UPDATE SET total = 1 / (orders.total - 5)",
                    []
                ],
                ["query", "INSERT INTO orders (id, total) VALUES (11, 1) RETURNING id, total", []],
                ["execute", "INSERT INTO public.orders (id, total) VALUES (12, 1)", []],
                [
                    "query",
                    "SELECT o.id FROM orders AS o JOIN public.orders AS p USING (id) WHERE p.total < 8",
                    []
                ],
            ]),
        );
        assert_eq!(answers[0]["ok"], json!([[2, 30]]), "{kind}");
        assert_eq!(answers[1]["ok"], json!([[2]]), "{kind}: by its schema too");
        assert_eq!(answers[2]["ok"], json!([[3]]), "a shared table");
        assert_eq!(answers[3]["ok"], 2, "{kind}");
        assert_eq!(answers[4]["ok"], 0, "{kind}");
        assert_eq!(answers[5]["ok"], 1, "{kind}: {answers:?}");
        assert_eq!(answers[6]["err"], "denied", "{kind}: {answers:?}");
        assert_eq!(answers[7]["err"], "denied", "{kind}: {answers:?}");
        // Refused before the other's row is looked at: the error says nothing of it.
        assert_eq!(answers[8]["err"], "denied", "{kind}: {answers:?}");
        assert_eq!(answers[9]["ok"], json!([[11, 1]]), "{kind}");
        assert_eq!(answers[10]["err"], "denied", "{kind}: without the view it has no tenant");
        let filled =
            format!("SELECT count(*) FROM orders WHERE id IN (9, 11) AND org = '{}'", ids[0]);
        assert_eq!(database.one::<i64>(&filled), 2, "{kind}");
        let others = "SELECT sum(total)::bigint FROM orders WHERE id IN (3, 4)";
        assert_eq!(database.one::<i64>(others), 12, "{kind}");
    }
}

/// A tenant whose name is longer than the column has room for is nobody, and not the one whose name
/// is its beginning.
#[test]
fn a_name_is_not_cut() {
    let Some((_database, verger)) = tenants("varchar(4)", ["acme", "bolt"]) else { return };
    let count = json!([["query", "SELECT count(*) FROM orders", []]]);
    assert_eq!(answers(&verger, scope(json!("acme2")), count.clone())[0]["ok"], json!([[0]]));
    assert_eq!(answers(&verger, scope(json!("acme")), count.clone())[0]["ok"], json!([[2]]));
    assert_eq!(answers(&verger, scope(json!("")), count)[0]["ok"], json!([[0]]));
}

/// A job for all tenants is not confined, and one of a tenant that comes after it is.
#[test]
fn jobs_of_all_and_of_one_take_turns() {
    let Some((_database, verger)) = tenants("text", ["acme", "bolt"]) else { return };
    let count = json!([["query", "SELECT count(*) FROM orders", []]]);
    for _ in 0..3 {
        for (organization, rows) in [(json!(null), 4), (json!("acme"), 2), (json!("bolt"), 1)] {
            let answers = answers(&verger, scope(organization), count.clone());
            assert_eq!(answers[0]["ok"], json!([[rows]]));
        }
    }
}

/// The index on the tenant's column serves.
#[test]
fn a_confined_query_reads_the_tenants_rows_by_their_index() {
    let Some((database, verger)) = tenants("text", ["acme", "bolt"]) else { return };
    database
        .client()
        .batch_execute(
            "INSERT INTO orders SELECT n, 'org' || n % 100, 1 FROM generate_series(100, 20000) AS n; \
             CREATE INDEX ON orders (org); ANALYZE orders",
        )
        .unwrap();
    answers(&verger, scope(json!("acme")), json!([["query", "SELECT 1", []]]));
    let role = format!("verger_{}_puppet:tenant", database.name);
    let url = format!("host={} user='{role}' dbname={}", database.cluster.socket(), database.name);
    let mut client = postgres::Client::connect(&url, postgres::NoTls).unwrap();
    let plan = client.query("EXPLAIN SELECT sum(total) FROM orders", &[]).unwrap();
    let plan: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
    assert!(plan.iter().any(|line| line.contains("Index Cond: (org = ")), "{plan:?}");
}
