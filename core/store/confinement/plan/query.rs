//! The statement that reads the rows of a tenant, as text. It is planned in one call of SQLite's
//! and prepared in another. Between them SQLite holds one text: the parts of the statement stand in
//! it side by side, and which of them are used is decided once the values are known.

use crate::store::confinement::table::Table;

/// The statement of a read, in the parts it is sent from plan to read.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::store::confinement) struct Query {
    /// Bit n is column n; the last is it and all after.
    pub(in crate::store::confinement) used: u64,
    pub(super) select: String,
    pub(super) hint: String,
    pub(super) terms: String,
    pub(super) order: String,
    /// `t` for a value that has to be text, `.` for any.
    pub(super) kinds: String,
}

/// Set among the columns that a read uses where it will not go through all rows: they are not
/// counted then. To a table with so many columns it is one that nobody asks for.
pub(in crate::store::confinement) const STOPS_EARLY: u64 = 1 << 63;

/// Between the parts. With it in the name of a column or an index the statement cannot be read: the
/// read fails.
const BETWEEN: char = '\u{1}';

impl Query {
    /// What it selects, from which table, and whose rows: in the form that the statement keeps.
    pub(super) fn select(columns: &str, base: &str, whose: &str) -> String {
        format!("{columns}{BETWEEN}{base}{BETWEEN}{whose}")
    }

    /// The statement for these values. A number that is compared with text is converted by rules
    /// that depend on where it comes from: then SQLite compares, on all rows of the tenant.
    pub(in crate::store::confinement) fn sql(&self, is_text: impl Fn(usize) -> bool) -> String {
        let answers =
            self.kinds.chars().enumerate().all(|(place, kind)| kind == '.' || is_text(place));
        let (columns, rows) = self.parts(answers);
        format!("SELECT {columns} {rows}{}", self.order)
    }

    /// The statement that counts the same rows.
    pub(in crate::store::confinement) fn count(&self, answers: bool) -> String {
        format!("SELECT count(*) {}", self.parts(answers).1)
    }

    /// The columns it selects, and from which rows.
    fn parts(&self, answers: bool) -> (&str, String) {
        let (hint, terms) =
            if answers { (self.hint.as_str(), self.terms.as_str()) } else { ("", "") };
        let mut parts = self.select.splitn(3, BETWEEN);
        let mut next = || parts.next().unwrap_or_default();
        let (columns, base, whose) = (next(), next(), next());
        (columns, format!("FROM {base}{hint} WHERE {whose}{terms}"))
    }

    pub(in crate::store::confinement) fn write(&self) -> String {
        let Self { used, select, hint, terms, order, kinds } = self;
        format!(
            "{kinds}{BETWEEN}{used}{BETWEEN}{hint}{BETWEEN}{terms}{BETWEEN}{order}{BETWEEN}{select}"
        )
    }

    pub(in crate::store::confinement) fn read(text: &str) -> Option<Self> {
        let mut parts = text.splitn(6, BETWEEN).map(str::to_string);
        Some(Self {
            kinds: parts.next()?,
            used: parts.next()?.parse().ok()?,
            hint: parts.next()?,
            terms: parts.next()?,
            order: parts.next()?,
            select: parts.next()?,
        })
    }

    /// Whether a text is one that was written.
    pub(in crate::store::confinement) fn is_written(text: &str) -> bool {
        text.contains(BETWEEN)
    }

    /// The kinds of the values a written one takes.
    pub(in crate::store::confinement) fn kinds(text: &[u8]) -> &[u8] {
        text.split(|byte| *byte == 1).next().unwrap_or_default()
    }
}

/// The columns that a mask stands for.
pub(in crate::store::confinement) fn columns_of(
    table: &Table,
    used: u64,
) -> impl Iterator<Item = usize> {
    (0..table.columns.len()).filter(move |column| used >> (*column).min(63) & 1 == 1)
}
