//! The demo's client of a PostgreSQL database, as an app has one.

use std::collections::HashMap;
use std::error::Error;

use anyhow::{Result, bail};
use postgres::types::private::BytesMut;
use postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use postgres::{Client, NoTls, Statement};
use verger::rusqlite::types::Value;

use super::database::Row;

pub(crate) struct PostgresClient {
    client: Client,
    /// Each text is planned once.
    prepared: HashMap<String, Statement>,
}

impl PostgresClient {
    pub(crate) fn connect(url: &str) -> Result<Self> {
        let client = Client::connect(url, NoTls)?;
        Ok(Self { client, prepared: HashMap::new() })
    }

    pub(crate) fn batch(&mut self, sql: &str) -> Result<()> {
        Ok(self.client.batch_execute(sql)?)
    }

    pub(crate) fn execute(&mut self, sql: &str, params: &[Value]) -> Result<u64> {
        let statement = self.prepared(sql)?;
        let bound: Vec<Bound<'_>> = params.iter().map(Bound).collect();
        Ok(self.client.execute(&statement, &references(&bound))?)
    }

    pub(crate) fn rows(&mut self, sql: &str, params: &[Value]) -> Result<Vec<Row>> {
        let statement = self.prepared(sql)?;
        let bound: Vec<Bound<'_>> = params.iter().map(Bound).collect();
        let rows = self.client.query(&statement, &references(&bound))?;
        rows.iter().map(row).collect()
    }

    fn prepared(&mut self, sql: &str) -> Result<Statement> {
        if let Some(statement) = self.prepared.get(sql) {
            return Ok(statement.clone());
        }
        // No text of the demo has another question mark.
        let statement = self.client.prepare(&sql.replace('?', "$"))?;
        self.prepared.insert(sql.to_string(), statement.clone());
        Ok(statement)
    }
}

fn references<'a>(bound: &'a [Bound<'_>]) -> Vec<&'a (dyn ToSql + Sync)> {
    bound.iter().map(|it| it as _).collect()
}

fn row(row: &postgres::Row) -> Result<Row> {
    let value = |place: usize| {
        Ok(match *row.columns()[place].type_() {
            Type::INT8 => row.try_get::<_, Option<i64>>(place)?.into(),
            Type::TEXT => row.try_get::<_, Option<String>>(place)?.into(),
            ref other => bail!("the demo reads no column of the type {other}"),
        })
    };
    (0..row.len()).map(value).collect()
}

/// A value on its way to a column of its kind.
#[derive(Debug)]
struct Bound<'a>(&'a Value);

impl ToSql for Bound<'_> {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        match self.0 {
            Value::Null => Ok(IsNull::Yes),
            Value::Integer(number) => number.to_sql_checked(kind, out),
            Value::Text(text) => text.to_sql_checked(kind, out),
            other => Err(format!("the demo writes no {other:?}").into()),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}
