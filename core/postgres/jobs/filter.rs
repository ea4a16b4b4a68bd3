//! Which jobs are meant, as a condition in this server's words.

use postgres::types::ToSql;
use serde_json::Value as Json;

use crate::queue::JobFilter;

/// The server keeps a character of the number 0 in JSON, and cannot read it.
const READABLE: &str = "strpos(args::text, '\\u0000') = 0";

/// A condition, and its parameters.
pub(super) struct Condition {
    pub(super) text: String,
    params: Vec<Box<dyn ToSql + Sync>>,
}

impl Condition {
    /// Adds a parameter, and returns its name.
    pub(super) fn bind(&mut self, param: impl ToSql + Sync + 'static) -> String {
        self.params.push(Box::new(param));
        format!("${}", self.params.len())
    }

    pub(super) fn params(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.params.iter().map(|param| &**param).collect()
    }

    fn and(&mut self, text: &str) {
        self.text.push_str(" AND ");
        self.text.push_str(text);
    }
}

/// The condition of a statement on `verger.jobs`.
pub(super) fn condition(filter: &JobFilter) -> Condition {
    let mut condition = Condition { text: "true".to_string(), params: Vec::new() };
    let states = filter.states.iter().map(|state| state.as_str().to_string()).collect();
    for (column, values) in [
        ("state", &states),
        ("worker", &filter.workers),
        ("queue", &filter.queues),
        ("schedule", &filter.schedules),
    ] {
        if !values.is_empty() {
            let values = condition.bind(Vec::clone(values));
            condition.and(&format!("{column} = ANY ({values})"));
        }
    }
    for tag in &filter.tags {
        let tag = condition.bind(tag.clone());
        condition.and(&format!("tags ? {tag}::text"));
    }
    if let Some(tenant) = &filter.tenant {
        let tenant = condition.bind(tenant.clone());
        condition
            .and(&format!("CASE WHEN {READABLE} THEN args ->> 'organization_id' END = {tenant}"));
    }
    for (path, value) in &filter.args {
        let found = condition.bind(steps(path));
        let found = format!("CASE WHEN {READABLE} THEN args #> {found}::text[] END");
        match value {
            Json::Null => condition.and(&format!("json_typeof({found}) = 'null'")),
            value => {
                // Compared as values, whatever their text.
                let value = condition.bind(value.to_string());
                condition.and(&format!("({found})::jsonb = {value}::text::jsonb"));
            }
        }
    }
    if let Some(text) = &filter.error {
        let text = condition.bind(text.to_lowercase());
        condition.and(&format!(
            "EXISTS (SELECT 1 FROM jsonb_array_elements(errors) AS error \
             WHERE strpos(lower(concat(error ->> 'code', chr(10), error ->> 'message')), {text}) > 0)"
        ));
    }
    if let Some(text) = &filter.text {
        let id = condition.bind(text.trim().parse::<i64>().ok());
        let text = condition.bind(text.to_lowercase());
        condition.and(&format!(
            "(id = {id} OR strpos(lower(concat_ws(chr(10), worker, args::text, tags::text, errors::text)), {text}) > 0)"
        ));
    }
    for bound in &filter.times {
        let at = condition.bind(bound.at.as_millis());
        condition.and(&format!("{} {} {at}", bound.time.column(), bound.compare.sign()));
    }
    for (compare, id) in &filter.ids {
        let id = condition.bind(*id);
        condition.and(&format!("id {} {id}", compare.sign()));
    }
    condition
}

/// A path as the server wants it: `lines[0].sku` is `{lines, 0, sku}`.
fn steps(path: &str) -> Vec<String> {
    let steps = path.trim_start_matches("$.").split(['.', '[']);
    let steps = steps.map(|step| step.trim_end_matches(']').to_string());
    steps.filter(|step| !step.is_empty()).collect()
}
