//! Roles that have something else than their workers were granted are refused, with what is wrong.

use verger::OpenError;

use super::{builder, open, usual, with_tables};

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
