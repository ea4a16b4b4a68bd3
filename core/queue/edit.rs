//! Changing one job that waits.

use rusqlite::Connection;
use serde_json::Value as Json;

use super::bounds::{is_due_time, is_priority, is_queue_name};
use super::bulk::reschedule;
use super::insert::tags_text;
use super::transition::returned;
use super::waiting::WAITING;
use crate::event::EventKind;
use crate::ids::JobId;
use crate::time::Timestamp;

/// What to change in a job that waits. What is not said stays.
///
/// ```
/// use verger::JobEdit;
/// let edit = JobEdit::new().priority(0).args(serde_json::json!({"month": "2026-02"}));
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
#[must_use = "it changes nothing until it is given to `Verger::edit`"]
pub struct JobEdit {
    pub(crate) args: Option<Json>,
    pub(crate) due_at: Option<Timestamp>,
    pub(crate) priority: Option<u8>,
    pub(crate) queue: Option<String>,
    pub(crate) tags: Option<Vec<String>>,
}

impl JobEdit {
    /// Changes nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Its new args: a JSON object, which replaces the old one.
    pub fn args(mut self, args: Json) -> Self {
        self.args = Some(args);
        self
    }

    /// It is not performed before this instant.
    pub fn at(mut self, when: impl Into<Timestamp>) -> Self {
        self.due_at = Some(when.into());
        self
    }

    /// Its new priority, from 0 (first) to 9 (last).
    pub fn priority(mut self, priority: u8) -> Self {
        self.priority = Some(priority);
        self
    }

    /// Its new queue.
    pub fn queue(mut self, name: impl Into<String>) -> Self {
        self.queue = Some(name.into());
        self
    }

    /// Its new tags, which replace the old ones.
    pub fn tags<T: Into<String>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags = Some(tags.into_iter().map(Into::into).collect());
        self
    }

    /// Whether nothing is to be changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What became of an edit.
pub(crate) enum Edited {
    /// It was changed. If its time was, this is the event to tell.
    Changed(Option<EventKind>),
    /// It was not changed, for this reason.
    Refused(String),
    /// There is no such job.
    Nothing,
}

/// Changes a job that waits, inside a write transaction. `args` is the text of new args that were
/// checked, and their version.
pub(super) fn edit(
    connection: &Connection,
    id: JobId,
    edit: &JobEdit,
    args: Option<(&str, u32)>,
    now: Timestamp,
) -> rusqlite::Result<Edited> {
    let sql =
        format!("SELECT {WAITING}, state, unique_key IS NOT NULL FROM verger_jobs WHERE id = ?1");
    let found = returned(connection, &sql, [id.number()], |row| {
        Ok((row.get::<_, bool>(0)?, super::read::text(row, 1)?, row.get::<_, bool>(2)?))
    })?;
    let Some((waits, state, is_unique)) = found else { return Ok(Edited::Nothing) };
    let refused = |reason: String| Ok(Edited::Refused(reason));
    if !waits {
        return refused(format!("it is {state}, and only a job that waits can be edited"));
    }
    if is_unique && (args.is_some() || edit.queue.is_some()) {
        return refused(
            "it is unique by its args and its queue: cancel it, and enqueue another".to_string(),
        );
    }
    if edit.priority.is_some_and(|priority| !is_priority(priority)) {
        return refused("the priority must be from 0, first, to 9, last".to_string());
    }
    if edit.queue.as_ref().is_some_and(|queue| !is_queue_name(queue)) {
        return refused("the name of the queue must have 1 to 128 bytes".to_string());
    }
    if edit.due_at.is_some_and(|at| !is_due_time(at)) {
        return refused(
            "it would be due after the year 9999, the last a time can name".to_string(),
        );
    }
    let tags = match edit.tags.as_deref().map(tags_text).transpose() {
        Ok(tags) => tags,
        Err(reason) => return refused(reason.to_string()),
    };
    connection
        .prepare_cached(
            "UPDATE verger_jobs SET args = coalesce(?2, args), priority = coalesce(?3, priority), queue = coalesce(?4, queue), \
             tags = CASE WHEN ?5 THEN ?6 ELSE tags END, args_version = coalesce(?7, args_version) WHERE id = ?1",
        )?
        .execute((
            id.number(),
            args.map(|(text, _)| text),
            edit.priority,
            &edit.queue,
            tags.is_some(),
            tags.flatten(),
            args.map(|(_, version)| version),
        ))?;
    let event = match edit.due_at {
        Some(at) => reschedule(connection, id, at, now)?,
        None => None,
    };
    Ok(Edited::Changed(event))
}
