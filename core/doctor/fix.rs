//! Mending what can be mended without a person.

use std::time::Duration;

use rusqlite::Connection;
use serde::Serialize;

use super::diagnosis::Doctor;
use super::finding::{Finding, Fix};
use super::schema;
use crate::error::Error;
use crate::event;
use crate::queue::{Backoff, Lost};
use crate::store::{
    self, Books, Durability, Location, MigrationSet, StoreContext, TransactionGuard,
};

/// How long a try to cut the log may hold the write lock, and the pause between two.
const CUT_WAIT: Duration = Duration::from_millis(50);

/// Tries to cut the log: a second of them.
const CUT_TRIES: u32 = 10;

/// What became of a finding that was to be mended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Fixed {
    /// The code of the finding.
    pub code: &'static str,
    /// What was done, in a sentence.
    pub done: String,
}

impl Doctor {
    /// Mends what can be mended, and returns what was done. Without a code it mends all findings
    /// whose fix is [`Fix::Safe`]. With a code it mends the findings of that code, even those whose
    /// fix is [`Fix::Asked`]. The list is empty when there was nothing to do.
    ///
    /// # Errors
    /// [`Error::Store`] when the file cannot be written. What was mended before stays so.
    pub fn fix(&self, code: Option<&str>) -> Result<Vec<Fixed>, Error> {
        let diagnosis = self.examine();
        let wanted = |finding: &&Finding| match (code, finding.fix) {
            (_, None) => false,
            (None, Some(fix)) => fix == Fix::Safe,
            (Some(code), Some(_)) => finding.code == code,
        };
        let mut codes: Vec<&'static str> =
            diagnosis.findings.iter().filter(wanted).map(|finding| finding.code).collect();
        codes.sort_unstable();
        codes.dedup();
        codes.into_iter().map(|code| Ok(Fixed { code, done: self.mend(code)? })).collect()
    }

    fn mend(&self, code: &str) -> Result<String, Error> {
        let location = Location::of_file(&self.path)
            .resolve()
            .unwrap_or_else(|_| Location::of_file(&self.path));
        let doing = "mend the file";
        let connection = location.connect(Durability::Full).doing(doing)?;
        Ok(match code {
            "long-log" => match cut_log(&connection).doing(doing)? {
                true => "the log was folded back into the file".to_string(),
                false => "the log could not be folded back whole: a program still reads or writes"
                    .to_string(),
            },
            "journal-mode" => {
                let mode: String = connection
                    .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
                    .doing(doing)?;
                format!("the journal mode is {mode}")
            }
            "schema-older" => {
                let steps = store::migrate(&connection, &MigrationSet::ENGINE, self.now())?;
                format!("{steps} steps of the migration were made")
            }
            "schema-missing" => {
                let expected = schema::expected();
                let transaction = TransactionGuard::begin_write(&connection).doing(doing)?;
                let mut made = Vec::new();
                for (name, (kind, sql)) in expected.iter().filter(|(_, (kind, _))| kind != "table")
                {
                    let there: bool = connection
                        .query_row(
                            "SELECT count(*) FROM sqlite_schema WHERE name = ?1",
                            [name],
                            |row| row.get(0),
                        )
                        .doing(doing)?;
                    if !there {
                        connection.execute_batch(sql).doing(doing)?;
                        made.push(format!("{kind} {name}"));
                    }
                }
                transaction.commit().doing(doing)?;
                format!("made again: {}", made.join(", "))
            }
            "stuck-jobs" => {
                let (backoff, now) = (|_: &str| Backoff::default(), self.now());
                let rescued = Books::on(&connection)
                    .write(doing, |books| books.rescue_jobs(Lost::Expired, now, &backoff))?;
                rescued.events.iter().for_each(event::say);
                let rescued = rescued.jobs;
                format!(
                    "{rescued} jobs were taken back: each is tried again, or discarded where its attempts are used up"
                )
            }
            _ => "nothing was done".to_string(),
        })
    }
}

/// Folds the log back and cuts it. False when others still use it.
///
/// Whoever cuts it holds the write lock while it waits for readers, and a reader may never end. So
/// it is folded first, which keeps nobody from writing, and cut by short tries.
fn cut_log(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
    connection.busy_timeout(CUT_WAIT)?;
    for _ in 0..CUT_TRIES {
        let is_busy: bool =
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
        if !is_busy {
            return Ok(true);
        }
        std::thread::sleep(CUT_WAIT);
    }
    Ok(false)
}
