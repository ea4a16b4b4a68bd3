//! Which jobs are meant: a filter, and the statement it becomes.

use rusqlite::types::Value;
use serde_json::Value as Json;

use super::job::JobState;
use super::waiting::WAITING;
use crate::ids::JobId;
use crate::time::Timestamp;

/// Which jobs to list, to count or to change: those that fit all that was said. If several states,
/// workers, queues or schedules are named, a job fits with any one of each.
///
/// As text it is one line, for a command or a field to type into: see its
/// [`FromStr`](#impl-FromStr-for-JobFilter).
///
/// ```
/// use verger::{JobFilter, JobState};
/// let failed = JobFilter::new()
///     .states([JobState::Discarded, JobState::Cancelled])
///     .worker("send-report")
///     .error_contains("no mail server");
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
#[must_use = "it holds once it is used to list jobs"]
pub struct JobFilter {
    pub(crate) states: Vec<JobState>,
    pub(crate) workers: Vec<String>,
    pub(crate) queues: Vec<String>,
    pub(crate) schedules: Vec<String>,
    pub(crate) tags: Vec<String>,
    pub(crate) tenant: Option<String>,
    pub(crate) args: Vec<(String, Json)>,
    pub(crate) error: Option<String>,
    pub(crate) text: Option<String>,
    pub(crate) times: Vec<Bound>,
    pub(crate) ids: Vec<(Compare, i64)>,
}

/// A time of a job that is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bound {
    pub(crate) time: JobTime,
    pub(crate) compare: Compare,
    pub(crate) at: Timestamp,
}

/// A time that a job has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum JobTime {
    /// When it was enqueued.
    Created,
    /// When it is due.
    Due,
    /// When its last attempt was claimed.
    Attempted,
    /// When it came to its end.
    Finished,
}

impl JobTime {
    pub(super) const ALL: [Self; 4] = [Self::Created, Self::Due, Self::Attempted, Self::Finished];

    /// Its word in the text of a filter.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Due => "due",
            Self::Attempted => "attempted",
            Self::Finished => "finished",
        }
    }

    pub(crate) const fn column(self) -> &'static str {
        match self {
            Self::Created => "created_at",
            Self::Due => "due_at",
            Self::Attempted => "attempted_at",
            Self::Finished => "finished_at",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compare {
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
}

impl Compare {
    pub(crate) const fn sign(self) -> &'static str {
        match self {
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Equal => "=",
            Self::GreaterOrEqual => ">=",
            Self::Greater => ">",
        }
    }
}

impl JobFilter {
    /// All jobs.
    pub fn new() -> Self {
        Self::default()
    }

    /// In this state; `None` changes nothing.
    pub fn state(mut self, state: impl Into<Option<JobState>>) -> Self {
        self.states.extend(state.into());
        self
    }

    /// In one of these states.
    pub fn states(mut self, states: impl IntoIterator<Item = JobState>) -> Self {
        self.states.extend(states);
        self
    }

    /// Of this worker.
    pub fn worker(mut self, name: impl Into<String>) -> Self {
        self.workers.push(name.into());
        self
    }

    /// In this queue.
    pub fn queue(mut self, name: impl Into<String>) -> Self {
        self.queues.push(name.into());
        self
    }

    /// Made by this schedule.
    pub fn schedule(mut self, name: impl Into<String>) -> Self {
        self.schedules.push(name.into());
        self
    }

    /// With this tag. Called several times, with each of the tags.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tags.push(tag.into());
        self
    }

    /// Of this organization, which its args name.
    pub fn organization(mut self, organization_id: impl Into<String>) -> Self {
        self.tenant = Some(organization_id.into());
        self
    }

    /// With this value at this path of the args: `customer.id`, `lines[0].sku`. Called several
    /// times, with each of the values. Numbers are equal when their values are. `null` means that a
    /// null is there.
    pub fn arg(mut self, path: impl Into<String>, value: impl Into<Json>) -> Self {
        self.args.push((path.into(), value.into()));
        self
    }

    /// With this text in the code or the message of one of its errors. Case of ASCII letters does
    /// not matter.
    pub fn error_contains(mut self, text: impl Into<String>) -> Self {
        self.error = Some(text.into());
        self
    }

    /// With this text in its worker's name, its args, its tags or its errors, or with this number
    /// as its id. Case of ASCII letters does not matter. In args the text is searched for as JSON
    /// writes it, in names and values alike.
    pub fn text_contains(mut self, text: impl Into<String>) -> Self {
        self.text = Some(text.into());
        self
    }

    /// With this time at or after this instant.
    pub fn since(self, time: JobTime, at: impl Into<Timestamp>) -> Self {
        self.bound(time, Compare::GreaterOrEqual, at.into())
    }

    /// With this time before this instant.
    pub fn until(self, time: JobTime, at: impl Into<Timestamp>) -> Self {
        self.bound(time, Compare::Less, at.into())
    }

    pub(super) fn bound(mut self, time: JobTime, compare: Compare, at: Timestamp) -> Self {
        self.times.push(Bound { time, compare, at });
        self
    }

    /// Before this job, to page backwards.
    pub fn before(self, job: JobId) -> Self {
        self.id(Compare::Less, job.number())
    }

    /// After this job, to page forwards.
    pub fn after(self, job: JobId) -> Self {
        self.id(Compare::Greater, job.number())
    }

    pub(super) fn id(mut self, compare: Compare, id: i64) -> Self {
        // Paging says it again and again, so only the last bound of each kind counts.
        self.ids.retain(|(said, _)| *said != compare);
        self.ids.push((compare, id));
        self
    }

    /// Whether few jobs can fit, and an index lists them.
    pub(super) fn is_rare(&self) -> bool {
        !self.states.is_empty() && self.states.iter().all(|state| is_rare(*state))
    }

    /// Whether only waiting jobs fit.
    pub(super) fn is_waiting(&self) -> bool {
        !self.states.is_empty() && self.states.iter().all(|state| state.is_waiting())
    }

    /// The lowest and the highest id that can fit.
    pub(super) fn id_range(&self) -> (i64, i64) {
        self.ids.iter().fold((i64::MIN, i64::MAX), |(first, last), (compare, id)| match compare {
            Compare::Less => (first, last.min(id.saturating_sub(1))),
            Compare::LessOrEqual => (first, last.min(*id)),
            Compare::Equal => (first.max(*id), last.min(*id)),
            Compare::GreaterOrEqual => (first.max(*id), last),
            Compare::Greater => (first.max(id.saturating_add(1)), last),
        })
    }

    /// The same without its bounds of ids, for a statement that has bounds itself. If there are two
    /// upper bounds, SQLite goes by the first, and looks at every row up to there.
    pub(super) fn without_ids(&self) -> Self {
        Self { ids: Vec::new(), ..self.clone() }
    }

    /// The condition of a statement on `verger_jobs`, and its parameters.
    pub(super) fn condition(&self) -> (String, Vec<Value>) {
        let mut condition = Condition { text: String::from("1"), params: Vec::new() };
        let states: Vec<_> = self.states.iter().map(|state| state.as_str().to_string()).collect();
        // Word for word what the index of the rare states says, so that SQLite uses it.
        if self.is_rare() {
            condition.and(RARE, []);
        } else if self.is_waiting() {
            condition.and(WAITING, []);
        }
        for (column, values) in [
            ("state", &states),
            ("worker", &self.workers),
            ("queue", &self.queues),
            ("schedule", &self.schedules),
        ] {
            condition.any(column, values);
        }
        for tag in &self.tags {
            condition.and(
                "EXISTS (SELECT 1 FROM json_each(CASE WHEN json_valid(tags) THEN tags ELSE '[]' END) WHERE value = ?)",
                [Value::Text(tag.clone())],
            );
        }
        if let Some(tenant) = &self.tenant {
            condition.and(
                "CASE WHEN json_valid(args) THEN CAST(args ->> '$.organization_id' AS TEXT) END = ?",
                [Value::Text(tenant.clone())],
            );
        }
        for (path, value) in &self.args {
            let path = Value::Text(json_path(path));
            match value {
                Json::Null => condition.and(
                    "CASE WHEN json_valid(args) THEN json_type(args, ?) END = 'null'",
                    [path],
                ),
                // Objects and arrays are compared by their text, as SQLite writes it.
                Json::Object(_) | Json::Array(_) => condition.and(
                    "CASE WHEN json_valid(args) THEN args -> ? END = json(?)",
                    [path, Value::Text(value.to_string())],
                ),
                Json::Bool(truth) => condition.and(
                    "CASE WHEN json_valid(args) THEN json_type(args, ?) END = ?",
                    [path, Value::Text(truth.to_string())],
                ),
                Json::Number(number) => condition.and(
                    "CASE WHEN json_valid(args) AND json_type(args, ?) IN ('integer', 'real') THEN args ->> ? END = ?",
                    [path.clone(), path, match (number.as_i64(), number.as_f64()) {
                        (Some(whole), _) => Value::Integer(whole),
                        (None, fraction) => Value::Real(fraction.unwrap_or(f64::NAN)),
                    }],
                ),
                Json::String(text) => condition.and(
                    "CASE WHEN json_valid(args) AND json_type(args, ?) = 'text' THEN args ->> ? END = ?",
                    [path.clone(), path, Value::Text(text.clone())],
                ),
            }
        }
        if let Some(text) = &self.error {
            condition.and(
                "EXISTS (SELECT 1 FROM json_each(CASE WHEN json_valid(errors) THEN errors ELSE '[]' END) AS error \
                 WHERE CASE WHEN error.type = 'object' THEN \
                 instr(lower(ifnull(error.value ->> 'code', '') || char(10) || ifnull(error.value ->> 'message', '')), lower(?)) > 0 END)",
                [Value::Text(text.clone())],
            );
        }
        if let Some(text) = &self.text {
            // Args, tags and errors have quotes, backslashes and line breaks escaped as in JSON.
            let lower = text.to_ascii_lowercase();
            let json = Json::String(lower.clone()).to_string();
            let json = json.get(1..json.len().saturating_sub(1)).unwrap_or(&lower).to_string();
            condition.and(
                "(id = ? OR instr(lower(worker), ?) > 0 OR instr(lower(args), ?) > 0 \
                 OR instr(lower(tags), ?) > 0 OR instr(lower(errors), ?) > 0)",
                [
                    text.trim().parse().map_or(Value::Null, Value::Integer),
                    Value::Text(lower),
                    Value::Text(json.clone()),
                    Value::Text(json.clone()),
                    Value::Text(json),
                ],
            );
        }
        for Bound { time, compare, at } in &self.times {
            condition.and(
                &format!("{} {} ?", time.column(), compare.sign()),
                [Value::Integer(at.as_millis())],
            );
        }
        for (compare, id) in &self.ids {
            condition.and(&format!("id {} ?", compare.sign()), [Value::Integer(*id)]);
        }
        (condition.text, condition.params)
    }
}

/// States that few jobs are in, and that are asked for most often. Word for word the condition of
/// the index `verger_jobs_rare`.
const RARE: &str = "(state = 'discarded' OR state = 'cancelled' OR state = 'retryable')";

const fn is_rare(state: JobState) -> bool {
    matches!(state, JobState::Discarded | JobState::Cancelled | JobState::Retryable)
}

struct Condition {
    text: String,
    params: Vec<Value>,
}

impl Condition {
    fn and<const N: usize>(&mut self, text: &str, params: [Value; N]) {
        self.text.push_str(" AND ");
        self.text.push_str(text);
        self.params.extend(params);
    }

    fn any(&mut self, column: &str, values: &[String]) {
        if values.is_empty() {
            return;
        }
        let marks = vec!["?"; values.len()].join(", ");
        self.and(&format!("{column} IN ({marks})"), []);
        self.params.extend(values.iter().cloned().map(Value::Text));
    }
}

/// A path as SQLite wants it, with every key in quotes, so that no key is taken for syntax.
fn json_path(path: &str) -> String {
    let mut quoted = String::from("$");
    for step in path.trim_start_matches("$.").split('.') {
        let (key, places) = match step.find('[') {
            Some(at) => step.split_at(at),
            None => (step, ""),
        };
        if !key.is_empty() {
            quoted.push_str(&format!(".\"{key}\""));
        }
        quoted.push_str(places);
    }
    quoted
}

/// Whether a path can be searched for.
pub(super) fn check_path(path: &str) -> Result<(), String> {
    let wrong =
        || format!("`{path}` is no path into the args: write `customer.id` or `lines[0].sku`");
    for step in path.split('.') {
        let key = step.split('[').next().unwrap_or_default();
        let places = step.get(key.len()..).unwrap_or_default();
        let is_place = |place: &str| {
            let digits = place.strip_suffix(']').unwrap_or_default();
            !digits.is_empty() && digits.len() < 10 && digits.bytes().all(|b| b.is_ascii_digit())
        };
        if (key.is_empty() && places.is_empty())
            || key.contains(['"', '\\', ']'])
            || !places.split('[').skip(1).all(is_place)
        {
            return Err(wrong());
        }
    }
    Ok(())
}
