//! Roles that have something else than their workers were granted are refused, with what is wrong.

use std::time::Duration;

use verger::{JobState, OpenError};

use super::{builder, open, usual, with_tables};
use crate::cluster::Cluster;

#[test]
fn an_open_says_which_role_is_not_as_granted() {
    let Some(database) = with_tables() else { return };
    let refused = |with: &str| {
        if !with.is_empty() {
            database.client().batch_execute(with).unwrap();
        }
        match builder(&database, usual()).open() {
            Err(OpenError::Roles { problems }) => problems.join("; "),
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("it opened after {with}"),
        }
    };
    let role = format!("\"verger_{}_puppet\"", database.name);
    assert!(refused("").contains("is not there"));
    drop(open(&database, builder(&database, usual())));
    for (change, back, named) in [
        (
            "GRANT SELECT ON secrets TO ROLE",
            "REVOKE SELECT ON secrets FROM ROLE",
            "SELECT on public.secrets",
        ),
        (
            "GRANT SELECT ON secrets TO PUBLIC",
            "REVOKE SELECT ON secrets FROM PUBLIC",
            "SELECT on public.secrets",
        ),
        (
            "GRANT SELECT (secret) ON other TO ROLE",
            "REVOKE SELECT (secret) ON other FROM ROLE",
            "other.secret",
        ),
        (
            "GRANT TRUNCATE ON things TO ROLE",
            "REVOKE TRUNCATE ON things FROM ROLE",
            "TRUNCATE on public.things",
        ),
        ("REVOKE DELETE ON things FROM ROLE", "GRANT DELETE ON things TO ROLE", "lacks"),
        ("ALTER ROLE ROLE BYPASSRLS", "ALTER ROLE ROLE NOBYPASSRLS", "powers of its own"),
        ("ALTER ROLE ROLE SUPERUSER", "ALTER ROLE ROLE NOSUPERUSER", "powers of its own"),
        ("GRANT pg_read_all_data TO ROLE", "REVOKE pg_read_all_data FROM ROLE", "member"),
        (
            "ALTER TABLE withheld OWNER TO ROLE",
            "ALTER TABLE withheld OWNER TO postgres",
            "owns something",
        ),
        (
            "GRANT CREATE ON SCHEMA public TO ROLE",
            "REVOKE CREATE ON SCHEMA public FROM ROLE",
            "may create",
        ),
        (
            "GRANT SELECT ON verger.jobs TO ROLE",
            "REVOKE SELECT ON verger.jobs FROM ROLE",
            "verger.jobs",
        ),
    ] {
        let problems = refused(
            &change
                .replace("ROLE ROLE", &format!("ROLE {role}"))
                .replace("TO ROLE", &format!("TO {role}"))
                .replace("FROM ROLE", &format!("FROM {role}")),
        );
        assert!(problems.contains(named), "{change}: {problems}");
        let back = back
            .replace("ROLE ROLE", &format!("ROLE {role}"))
            .replace("TO ROLE", &format!("TO {role}"))
            .replace("FROM ROLE", &format!("FROM {role}"));
        database.client().batch_execute(&back).unwrap();
    }
    drop(builder(&database, usual()).open().unwrap());
}

#[test]
fn what_cannot_be_granted_is_named() {
    let Some(database) = with_tables() else { return };
    let tables = "DROP TABLE withheld; ALTER TABLE things ADD tenant bytea; CREATE VIEW seen AS SELECT * FROM other; \
        DROP TABLE other; "
        .replace("CREATE VIEW seen AS SELECT * FROM other; ", "");
    database.client().batch_execute(&tables).unwrap();
    let problems = |grant| match builder(&database, grant).role_grants() {
        Err(OpenError::Roles { problems }) => problems.join("; "),
        other => panic!("{other:?}"),
    };
    assert!(problems(usual()).contains("worker `puppet` is granted other, which is not there"));
    let tenant = verger::Grant::new().write("things");
    assert!(problems(tenant.clone().tenant_column("tenant")).contains("has a type in tenant"));
    assert!(problems(tenant.tenant_column("org")).contains("has no column org for the tenant"));
    let columns = verger::Grant::new().read_columns("things", ["id", "gone"]);
    assert!(problems(columns).contains("has no column gone"));
    let unknown = builder(&database, usual()).grant("nobody", usual()).open();
    assert!(matches!(unknown, Err(OpenError::NoSuchWorker { .. })));
}

/// A second run brings the roles to a grant that gives less, whatever it leaves out.
#[test]
fn a_narrower_grant_takes_everything_else_back() {
    let Some(database) = with_tables() else { return };
    database
        .client()
        .batch_execute(&format!(
            "CREATE SCHEMA app; CREATE TABLE app.orders (id bigint, org text); ALTER TABLE things ADD org text; \
             ALTER DATABASE {} SET search_path = public, app",
            database.name
        ))
        .unwrap();
    let manifest = serde_json::json!({
        "name": "puppet", "version": "1", "tenant_aware": true, "args": {"do": {"default": []}},
        "tables": [{"table": "things", "verbs": ["read", "insert"]}, {"table": "orders", "verbs": ["read"]}],
    });
    let with = |grant: verger::Grant| {
        verger::postgres::Verger::builder(database.url())
            .component("puppet", super::under(&manifest))
            .grant("puppet", grant)
            .clock(crate::clock())
    };
    let wide = verger::Grant::new().write("things").read("orders").tenant_column("org");
    drop(open(&database, with(wide)));
    let narrow = verger::Grant::new().read("things").tenant_column("org").shared("things");
    drop(open(&database, with(narrow)));
    drop(open(&database, with(verger::Grant::new().read("things"))));
    let role = format!("verger_{}_puppet", database.name);
    let rights = format!(
        "SELECT count(*) FROM pg_class WHERE has_any_column_privilege('{role}', oid, 'INSERT') OR relname = 'orders' AND has_table_privilege('{role}', oid, 'SELECT')"
    );
    assert_eq!(database.one::<i64>(&rights), 0);
    assert_eq!(
        database.one::<i64>("SELECT count(*) FROM pg_policy WHERE polname <> 'verger_all'"),
        0
    );
    let may_log_in =
        format!("SELECT count(*) FROM pg_roles WHERE rolname = '{role}:tenant' AND rolcanlogin");
    assert_eq!(database.one::<i64>(&may_log_in), 0);
    let views = format!("SELECT count(*) FROM pg_namespace WHERE nspname = '{role}:tenant'");
    assert_eq!(database.one::<i64>(&views), 0);
}

/// Policies that the app makes for itself are not voided.
#[test]
fn policies_of_the_app_are_not_voided() {
    let Some(database) = with_tables() else { return };
    database.client().batch_execute("ALTER TABLE things ADD org text").unwrap();
    let grant = || verger::Grant::new().write("things").tenant_column("org");
    drop(open(&database, builder(&database, grant())));
    database.client().batch_execute("CREATE POLICY own ON things USING (org = 'acme')").unwrap();
    let Err(OpenError::Roles { problems }) = builder(&database, grant()).open() else {
        panic!("it opened")
    };
    assert!(problems.join("; ").contains("drop verger_all"), "{problems:?}");
    database.client().batch_execute("DROP POLICY verger_all ON things").unwrap();
    drop(open(&database, builder(&database, grant())));
    assert_eq!(
        database.one::<i64>("SELECT count(*) FROM pg_policy WHERE polname = 'verger_all'"),
        0
    );
}

/// With passwords: those of the roles are derived from the one in the address, and are kept as
/// SCRAM verifiers.
#[test]
fn roles_log_in_with_passwords_of_their_own() {
    let Some(cluster) = Cluster::with_passwords("the password") else { return };
    let cluster = std::sync::Arc::new(cluster);
    let database = cluster.database("");
    let url = |password: &str| format!("{} password='{password}'", database.url());
    let clock = crate::clock();
    let with = |password: &str| {
        verger::postgres::Verger::builder(url(password))
            .component("puppet", super::PUPPET)
            .grant("puppet", usual())
            .clock(clock.clone())
    };
    let mut client = postgres::Client::connect(&url("the password"), postgres::NoTls).unwrap();
    client.batch_execute(super::TABLES).unwrap();
    let said = with("another").open().unwrap_err().to_string();
    assert!(said.contains("password authentication failed"), "{said}");
    let sql = with("the password").role_grants().unwrap();
    assert!(!sql.contains("the password"), "{sql}");
    client.batch_execute(&sql).unwrap();
    let verger = with("the password").open().unwrap();
    assert_eq!(
        super::answer(&verger, serde_json::json!(["query", "SELECT 1", []])),
        serde_json::json!({"ok": [[1]]})
    );
    // A secret that is another one on this node: its components cannot log in, and their jobs say so.
    let other = with("the password").role_secret("another secret").open().unwrap();
    let (id, _) = super::attempt(
        &other,
        serde_json::json!({}),
        serde_json::json!([["query", "SELECT 1", []]]),
    );
    let error = other.job(id).unwrap().unwrap().errors.remove(0);
    assert!(error.message.contains("password authentication failed"), "{error:?}");
    // It is not the job's fault, so no attempt is used, however often that happens.
    let job = other.job(id).unwrap().unwrap();
    assert_eq!((job.state, job.attempt), (JobState::Retryable, 0));
    clock.advance(Duration::from_secs(3_600));
    other.tick(other.now()).unwrap();
    let job = other.job(id).unwrap().unwrap();
    assert_eq!((job.state, job.attempt, job.errors.len()), (JobState::Retryable, 0, 2));
    // A node that has the right one performs it.
    clock.advance(Duration::from_secs(3_600));
    verger.tick(verger.now()).unwrap();
    assert_eq!(verger.job(id).unwrap().unwrap().state, JobState::Completed);
}
