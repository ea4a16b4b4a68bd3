//! The statement of a read of an app's table, and its four forms. A plan leaves open whether its
//! index answers for the values that come: a number is not looked up in text. It leaves open whether
//! the rows are gone through or counted. A statement is kept under its plan and its form.

use rusqlite::ffi;

use super::Wall;
use crate::store::confinement::inner::{Failure, Inner};
use crate::store::confinement::plan::{Query, columns_of};
use crate::store::confinement::table::Key;

/// A read's statement.
pub(super) struct Read {
    /// The plan it was prepared for; last what is made of it, see [`Form`].
    pub(super) plan: Box<[u8]>,
    pub(super) inner: Inner,
    /// For each column of the table, which one of the statement it is.
    pub(super) places: Vec<Option<usize>>,
    pub(super) width: usize,
    /// No column of its rows is read, as far as SQLite said: the row's key may be.
    pub(super) reads_nothing: bool,
}

impl Read {
    /// `plan` ends with the byte of a form.
    pub(super) fn prepare(wall: &Wall, plan: &[u8]) -> Result<Self, Failure> {
        let lost = || Failure::new(ffi::SQLITE_INTERNAL, "the plan of a read is lost");
        let (form, text) = plan.split_last().ok_or_else(lost)?;
        let form = Form::of(*form);
        let query = std::str::from_utf8(text).ok().and_then(Query::read).ok_or_else(lost)?;
        let inner = wall.prepare(&match form {
            Form::All | Form::Answered => query.sql(|_| form.answers()),
            Form::CountedAll | Form::CountedAnswered => query.count(form.answers()),
        })?;
        let first = match &wall.table.key {
            Key::Rowid { .. } => 1,
            Key::Columns(parts) => parts.len(),
            Key::None => 0,
        };
        let mut places = vec![None; wall.table.columns.len()];
        let mut width = first;
        for column in columns_of(&wall.table, query.used) {
            places[column] = Some(width);
            width += 1;
        }
        Ok(Self { plan: plan.into(), inner, places, width, reads_nothing: query.used == 0 })
    }
}

/// What is made of a plan, as the last byte of a statement's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Form {
    /// All rows of the tenant: no index answers the terms, for values of these kinds.
    All,
    /// The rows for which the index answers the terms.
    Answered,
    /// How many rows there are of either kind.
    CountedAll,
    CountedAnswered,
}

impl Form {
    pub(super) fn of(byte: u8) -> Self {
        match byte {
            0 => Self::All,
            1 => Self::Answered,
            2 => Self::CountedAll,
            _ => Self::CountedAnswered,
        }
    }

    pub(super) fn answers(self) -> bool {
        matches!(self, Self::Answered | Self::CountedAnswered)
    }

    pub(super) fn counted(self) -> Self {
        if self.answers() { Self::CountedAnswered } else { Self::CountedAll }
    }
}
