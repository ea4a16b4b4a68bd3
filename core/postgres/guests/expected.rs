//! What the roles of a component are to have: the relations its grant names, found in the catalog.

use std::collections::BTreeSet;

use verger_worker::Verb;

use super::relation::Relation;
use super::roles::{Roles, Verbs, Wanted, privilege};
use crate::postgres::session::Session;
use crate::store::StoreError;

/// A privilege: schema, relation, the word for it, and the column, or none for the whole relation.
pub(super) type Privilege = (String, String, &'static str, Option<String>);

/// A role, and what it is to have.
pub(super) struct Expected {
    pub(super) worker: String,
    pub(super) role: String,
    /// It is for jobs of one tenant.
    pub(super) is_confined: bool,
    pub(super) tables: Vec<Granted>,
}

/// A relation, and what may be done with it.
pub(super) struct Granted {
    pub(super) relation: Relation,
    pub(super) verbs: Verbs,
    /// The column that holds the tenant, for a role of one tenant.
    pub(super) tenant: Option<String>,
}

impl Granted {
    /// The columns of one verb. Empty for a verb that has none.
    pub(super) fn columns(&self, verb: Verb, only: Option<&BTreeSet<String>>) -> Vec<&str> {
        if verb == Verb::Delete {
            return Vec::new();
        }
        let names = self.relation.columns.iter().map(|column| column.name.as_str());
        names.filter(|name| only.is_none_or(|only| only.contains(&name.to_lowercase()))).collect()
    }

    /// The columns that the view of a tenant shows: those that may be used in any way.
    pub(super) fn viewed(&self) -> Vec<&str> {
        let used: BTreeSet<&str> =
            self.verbs.iter().flat_map(|(verb, only)| self.columns(*verb, only.as_ref())).collect();
        let names = self.relation.columns.iter().map(|column| column.name.as_str());
        names.filter(|name| used.contains(name)).collect()
    }

    /// The privileges it stands for, on the table and on the tenant's view of it.
    fn privileges(&self, role: &str, out: &mut BTreeSet<Privilege>) {
        let schemas = [Some(self.relation.schema.as_str()), self.tenant.as_ref().map(|_| role)];
        for schema in schemas.into_iter().flatten() {
            let of = |word, column: Option<&str>| {
                (schema.to_string(), self.relation.name.clone(), word, column.map(str::to_string))
            };
            for (verb, only) in &self.verbs {
                match verb {
                    Verb::Delete => drop(out.insert(of(privilege(*verb), None))),
                    verb => {
                        let columns = self.columns(*verb, only.as_ref());
                        out.extend(columns.iter().map(|name| of(privilege(*verb), Some(name))));
                    }
                }
            }
        }
    }
}

impl Expected {
    pub(super) fn privileges(&self) -> BTreeSet<Privilege> {
        let mut all = BTreeSet::new();
        self.tables.iter().for_each(|granted| granted.privileges(&self.role, &mut all));
        all
    }

    /// The roles of a component. The second list says what cannot be granted, and why.
    pub(super) fn of(
        session: &mut Session,
        roles: &Roles,
        wanted: &Wanted,
    ) -> Result<(Vec<Self>, Vec<String>), StoreError> {
        let (mut expected, mut wrong) = (Vec::new(), Vec::new());
        let mut found = Vec::new();
        for (table, verbs) in &wanted.tables {
            match Relation::find(session, table)? {
                Some(relation) => found.push((table, verbs, relation)),
                None => wrong.push(format!(
                    "worker `{}` is granted {table}, which is not there",
                    wanted.worker
                )),
            }
        }
        let tenant_column = wanted.tenant_column.as_deref();
        let all = std::iter::once(None);
        for tenant in all.chain(tenant_column.map(Some)) {
            let mut tables = Vec::new();
            for (table, verbs, relation) in &found {
                let tenant = tenant.filter(|_| !wanted.shared.contains(*table));
                match granted(relation.clone(), verbs, tenant) {
                    Ok(granted) => tables.push(granted),
                    Err(why) => wrong.push(format!("worker `{}`: {table} {why}", wanted.worker)),
                }
            }
            let is_confined = tenant.is_some();
            expected.push(Self {
                worker: wanted.worker.clone(),
                role: roles.name(&wanted.worker, is_confined),
                is_confined,
                tables,
            });
        }
        Ok((expected, wrong))
    }
}

fn granted(relation: Relation, verbs: &Verbs, tenant: Option<&str>) -> Result<Granted, String> {
    for only in verbs.values() {
        let gone = only.iter().flatten().find(|name| relation.column(name).is_none());
        if let Some(name) = gone {
            return Err(format!("has no column {name}, which is granted"));
        }
    }
    if let Some(name) = relation.ambiguous_column() {
        return Err(format!(
            "has columns whose names differ in case only ({name}), which a grant cannot tell apart"
        ));
    }
    let Some(tenant) = tenant else {
        return Ok(Granted { relation, verbs: verbs.clone(), tenant: None });
    };
    if !relation.is_table() {
        return Err("is no table, and the rows of a view cannot be told apart by tenant: grant the tables behind it".to_string());
    }
    let Some(column) = relation.column(tenant) else {
        return Err(format!(
            "has no column {tenant} for the tenant: grant it as shared if it belongs to none"
        ));
    };
    if relation.has_own_policies && !relation.has_row_security {
        return Err("has policies that are not in force: confining a tenant's job would put them in force for everybody".to_string());
    }
    if relation.has_own_policies && relation.is_open_to_others {
        return Err("has policies of its own beside verger_all, which shows everybody everything: drop verger_all".to_string());
    }
    if column.tenant().is_none() {
        return Err(format!(
            "has a type in {tenant} that a tenant's name cannot be compared with: use text, an integer, numeric or uuid"
        ));
    }
    let tenant = Some(column.name.clone());
    Ok(Granted { relation, verbs: verbs.clone(), tenant })
}
