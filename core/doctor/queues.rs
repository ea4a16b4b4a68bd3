//! Queues in which nothing happens because someone paused them.

use super::examination::{Examination, counted, quoted_text};
use super::finding::Finding;

pub(super) fn check(examination: &mut Examination<'_>) {
    let paused = examination.connection.prepare(
        "SELECT name, updated_at, (SELECT count(*) FROM verger_jobs WHERE queue = name AND \
         (state = 'scheduled' OR state = 'available' OR state = 'retryable')) FROM verger_queues WHERE paused = 1 ORDER BY name",
    );
    let paused = paused.and_then(|mut statement| {
        statement
            .query_map([], |row| {
                let name = String::from_utf8_lossy(row.get_ref(0)?.as_bytes()?).into_owned();
                Ok((name, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?.unsigned_abs()))
            })?
            .collect::<Result<Vec<_>, _>>()
    });
    for (name, since, waiting) in
        examination.look("the queues that are paused", paused).unwrap_or_default()
    {
        let since = crate::time::Timestamp::from_millis(since);
        let message = format!(
            "queue `{name}` is paused since {since}, and {} in it",
            match waiting {
                0 => "nothing waits".to_string(),
                1 => "1 job waits".to_string(),
                _ => format!("{} wait", counted(waiting, "job")),
            }
        );
        let mend = examination.verb(&format!("queue resume {}", quoted_text(&name)));
        examination.found(Finding::note("queue-paused", message).about(name).mend(mend));
    }
}
