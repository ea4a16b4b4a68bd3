//! A filter as one line of text.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, NaiveDate};
use serde_json::Value as Json;

use super::filter::{Compare, JobFilter, JobTime, check_path};
use super::job::JobState;
use crate::ids::JobId;
use crate::time::Timestamp;

/// The text of a filter that cannot be read. Nothing was listed or changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the filter cannot be read at `{word}`: {reason}")]
pub struct FilterError {
    /// The part that is wrong.
    pub word: String,
    /// What is wrong with it.
    pub reason: String,
}

const KEYS: &str = "state, worker, queue, schedule, tag, organization, args.PATH, error, text, id, created, due, attempted and finished";

/// Terms with blanks between them. A job has to fit each.
///
/// | term | fits |
/// |---|---|
/// | `state=discarded,retryable` | jobs in one of these states |
/// | `worker=send-mail` `queue=mail` `schedule=nightly` | of one of these; several are separated by commas |
/// | `tag=monthly` | with this tag; of several, with each |
/// | `organization=acme` | whose args name this organization |
/// | `args.customer.id=4711` | with this value at this path: JSON, or text where it is no JSON |
/// | `error~"no mail server"` | with this text in an error |
/// | `text~invoice` | with this text in worker, args, tags or errors, or with this id |
/// | `id>=100` `id<200` `id=7` | with such an id |
/// | `created` `due` `attempted` `finished`, with `>=` `>` `<` `<=` | at such a time: `2026-01-31`, or RFC 3339 |
///
/// A value with blanks or commas stands in double quotes. Within them `\"` and `\\` are a quote and
/// a backslash. A term that is none of these is an error, because a typing mistake must not change
/// more jobs than were meant.
///
/// ```
/// use verger::{JobFilter, JobState};
/// let filter: JobFilter = r#"state=discarded worker=send-mail error~"no mail server""#.parse()?;
/// let same = JobFilter::new()
///     .state(JobState::Discarded)
///     .worker("send-mail")
///     .error_contains("no mail server");
/// assert_eq!(filter, same);
/// assert!("stat=discarded".parse::<JobFilter>().is_err());
/// # Ok::<(), verger::FilterError>(())
/// ```
impl FromStr for JobFilter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut filter = Self::new();
        for term in terms(text)? {
            filter = term.add_to(filter)?;
        }
        Ok(filter)
    }
}

struct Term {
    text: String,
    key: String,
    sign: String,
    values: Vec<String>,
}

fn error(word: &str, reason: impl Into<String>) -> FilterError {
    FilterError { word: word.to_string(), reason: reason.into() }
}

/// Cuts the text at blanks outside quotes.
fn terms(text: &str) -> Result<Vec<Term>, FilterError> {
    let mut terms = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(first) = chars.peek().copied() {
        if first.is_whitespace() {
            chars.next();
            continue;
        }
        let mut term = Term {
            text: String::new(),
            key: String::new(),
            sign: String::new(),
            values: vec![String::new()],
        };
        let mut in_quotes = false;
        while let Some(c) = chars.peek().copied() {
            if c.is_whitespace() && !in_quotes {
                break;
            }
            chars.next();
            term.text.push(c);
            match c {
                '=' | '<' | '>' | '~' if !in_quotes && term.is_at_its_sign() => term.sign.push(c),
                c if term.sign.is_empty() => term.key.push(c),
                '"' => in_quotes = !in_quotes,
                '\\' if in_quotes => {
                    if let Some(escaped) = chars.next() {
                        term.text.push(escaped);
                        term.push(escaped);
                    }
                }
                ',' if !in_quotes => term.values.push(String::new()),
                c => term.push(c),
            }
        }
        if in_quotes {
            return Err(error(&term.text, "a quote is opened and not closed"));
        }
        if term.sign.is_empty() {
            return Err(error(&term.text, format!("it is no `KEY=VALUE`; the keys are {KEYS}")));
        }
        terms.push(term);
    }
    Ok(terms)
}

impl Term {
    /// Whether no value has begun.
    fn is_at_its_sign(&self) -> bool {
        self.values == [""] && self.sign.len() < 2
    }

    fn push(&mut self, c: char) {
        if let Some(last) = self.values.last_mut() {
            last.push(c);
        }
    }

    fn wrong(&self, reason: impl Into<String>) -> FilterError {
        error(&self.text, reason)
    }

    /// The only value.
    fn one(&self) -> Result<&str, FilterError> {
        match self.values.as_slice() {
            [one] if !one.is_empty() => Ok(one),
            [_] => Err(self.wrong("it has no value")),
            _ => Err(self.wrong("it takes one value: put one with commas in double quotes")),
        }
    }

    fn all(&self) -> Result<&[String], FilterError> {
        self.signed("=")?;
        if self.values.iter().any(String::is_empty) {
            return Err(self.wrong("a value is empty"));
        }
        Ok(&self.values)
    }

    fn signed(&self, sign: &str) -> Result<(), FilterError> {
        match self.sign == sign {
            true => Ok(()),
            false => Err(self.wrong(format!("`{}` takes `{sign}`", self.key))),
        }
    }

    fn compare(&self) -> Result<Compare, FilterError> {
        Ok(match self.sign.as_str() {
            "<" => Compare::Less,
            "<=" => Compare::LessOrEqual,
            "=" => Compare::Equal,
            ">=" => Compare::GreaterOrEqual,
            ">" => Compare::Greater,
            _ => {
                return Err(
                    self.wrong(format!("`{}` takes one of `<` `<=` `=` `>=` `>`", self.key))
                );
            }
        })
    }

    fn add_to(&self, mut filter: JobFilter) -> Result<JobFilter, FilterError> {
        match self.key.as_str() {
            "state" => {
                for word in self.all()? {
                    filter.states.push(word.parse::<JobState>().map_err(|why| self.wrong(why))?);
                }
            }
            "worker" => filter.workers.extend_from_slice(self.all()?),
            "queue" => filter.queues.extend_from_slice(self.all()?),
            "schedule" => filter.schedules.extend_from_slice(self.all()?),
            "tag" => filter.tags.extend_from_slice(self.all()?),
            "organization" => {
                self.signed("=")?;
                self.once(filter.tenant.is_none())?;
                filter = filter.organization(self.one()?);
            }
            "error" => {
                self.signed("~")?;
                self.once(filter.error.is_none())?;
                filter = filter.error_contains(self.one()?);
            }
            "text" => {
                self.signed("~")?;
                self.once(filter.text.is_none())?;
                filter = filter.text_contains(self.one()?);
            }
            "id" => {
                let id: i64 =
                    self.one()?.parse().map_err(|_| self.wrong("an id is a whole number"))?;
                let compare = self.compare()?;
                self.once(filter.ids.iter().all(|(said, _)| *said != compare))?;
                filter = filter.id(compare, JobId::from_number(id).number());
            }
            key => {
                if let Some(path) = key.strip_prefix("args.") {
                    self.signed("=")?;
                    check_path(path).map_err(|why| self.wrong(why))?;
                    let text = self.one()?;
                    let value = serde_json::from_str(text)
                        .unwrap_or_else(|_| Json::String(text.to_string()));
                    return Ok(filter.arg(path, value));
                }
                let time = JobTime::ALL.into_iter().find(|time| time.word() == key);
                let Some(time) = time else {
                    return Err(self.wrong(format!("there is no key `{key}`; the keys are {KEYS}")));
                };
                let at = instant(self.one()?).ok_or_else(|| {
                    self.wrong("a time is a day, `2026-01-31`, or RFC 3339, `2026-01-31T09:00:00Z`")
                })?;
                filter = filter.bound(time, self.compare()?, at);
            }
        }
        Ok(filter)
    }

    fn once(&self, is_first: bool) -> Result<(), FilterError> {
        match is_first {
            true => Ok(()),
            false => Err(self.wrong(format!("`{}{}` is said twice", self.key, self.sign))),
        }
    }
}

/// A day stands for its first instant, in UTC.
fn instant(text: &str) -> Option<Timestamp> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Some(Timestamp::from_millis(at.timestamp_millis()));
    }
    let day: NaiveDate = text.parse().ok()?;
    Some(Timestamp::from_millis(day.and_hms_opt(0, 0, 0)?.and_utc().timestamp_millis()))
}

/// A value, quoted if it must be, so that it is read as the same value.
fn quoted(text: &str) -> String {
    let is_plain = !text.is_empty()
        && !text.contains(|c: char| {
            c.is_whitespace() || matches!(c, ',' | '"' | '\\' | '=' | '<' | '>' | '~')
        });
    match is_plain {
        true => text.to_string(),
        false => format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
    }
}

fn list<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    texts.map(quoted).collect::<Vec<_>>().join(",")
}

/// A text that is read as the same filter.
impl fmt::Display for JobFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut terms = Vec::new();
        if !self.states.is_empty() {
            terms.push(format!("state={}", list(self.states.iter().map(|state| state.as_str()))));
        }
        for (key, values) in [
            ("worker", &self.workers),
            ("queue", &self.queues),
            ("schedule", &self.schedules),
            ("tag", &self.tags),
        ] {
            if !values.is_empty() {
                terms.push(format!("{key}={}", list(values.iter().map(String::as_str))));
            }
        }
        terms.extend(self.tenant.iter().map(|id| format!("organization={}", quoted(id))));
        for (path, value) in &self.args {
            terms.push(format!("args.{path}={}", quoted(&value.to_string())));
        }
        terms.extend(self.error.iter().map(|text| format!("error~{}", quoted(text))));
        terms.extend(self.text.iter().map(|text| format!("text~{}", quoted(text))));
        for bound in &self.times {
            terms.push(format!("{}{}{}", bound.time.word(), bound.compare.sign(), bound.at));
        }
        for (compare, id) in &self.ids {
            terms.push(format!("id{}{id}", compare.sign()));
        }
        f.write_str(&terms.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_read_as_it_is_written() {
        for text in [
            "",
            "state=discarded,retryable worker=a,b queue=mail schedule=nightly tag=x,y",
            "organization=acme args.customer.id=4711 args.lines[0].sku=\"\\\"A 1\\\"\" args.gone=null",
            "error~\"no mail, \\\\ server\" text~\"a b\" id>=100 id<200",
            "created>=2026-01-31T00:00:00Z due<2026-02-01T09:30:00Z finished>2026-01-01T00:00:00.001Z",
            "worker=\"a=b\" queue=\"\\\"\"",
        ] {
            let filter: JobFilter = text.parse().unwrap();
            assert_eq!(filter.to_string(), text);
            assert_eq!(filter.to_string().parse::<JobFilter>().unwrap(), filter);
        }
        let day: JobFilter = "created>=2026-01-31".parse().unwrap();
        assert_eq!(day.to_string(), "created>=2026-01-31T00:00:00Z");
        let text: JobFilter = "args.month=2026-01".parse().unwrap();
        assert_eq!(text, JobFilter::new().arg("month", "2026-01"));
    }

    #[test]
    fn what_is_no_term_is_refused_and_named() {
        for (text, word) in [
            ("stat=discarded", "stat=discarded"),
            ("worker=a discarded", "discarded"),
            ("state=done", "state=done"),
            ("state=", "state="),
            ("worker=a,,b", "worker=a,,b"),
            ("worker~a", "worker~a"),
            ("error=a", "error=a"),
            ("text=a", "text=a"),
            ("id=seven", "id=seven"),
            ("id~7", "id~7"),
            ("id<7 id<9", "id<9"),
            ("due>tomorrow", "due>tomorrow"),
            ("error~\"open", "error~\"open"),
            ("args.=1", "args.=1"),
            ("args.a\"b=1", "args.a\"b=1"),
            ("args.a[x]=1", "args.a[x]=1"),
            ("organization=a organization=b", "organization=b"),
            ("=a", "=a"),
        ] {
            let error = text.parse::<JobFilter>().unwrap_err();
            assert_eq!(error.word, word, "{text}");
        }
    }
}
