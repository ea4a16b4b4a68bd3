//! A worker that does what its args say.

use serde_json::json;
use verger::verger_worker::prelude::*;

/// What a test has a worker do of its own.
pub(super) type Own = Box<dyn Fn(&Context<'_>, &str) -> Result<Outcome, WorkerError> + Send + Sync>;

/// A worker that does what its kind says.
pub(super) struct Plays(pub(super) Own);

impl Worker for Plays {
    fn manifest(&self) -> Manifest {
        let tables = ["things", "children", "doomed", "orders"];
        let manifest = Manifest::new("plays", "1.0.0")
            .arg("kind", ArgSpec::required())
            .arg("name", ArgSpec::default_value(""))
            .capability("send");
        tables.iter().fold(manifest, |manifest, table| {
            manifest.table(TableAsk::named(*table).read().insert().delete())
        })
    }

    fn perform(
        &self,
        job: &Context<'_>,
        _: Option<&Scope>,
        args: &Args,
    ) -> Result<Outcome, WorkerError> {
        let (kind, name): (String, String) = (args.get("kind")?, args.get("name")?);
        let write = |what: &str| -> Result<(), WorkerError> {
            job.execute("INSERT INTO things (name) VALUES (?1)", params![format!("{name}{what}")])?;
            job.audit(AuditEvent::success("thing.written").subject("thing", name.as_str()))?;
            job.publish("thing.written", &json!(name))?;
            Ok(())
        };
        match kind.as_str() {
            "silent" => {}
            "answers" => return Ok(Outcome::DoneWith(json!({"name": name}))),
            "speaks" => job.publish("spoken", &json!(name))?,
            "plain" => write("")?,
            "reads" => {
                let rows = job.query("SELECT count(*) FROM things", params![])?;
                let count: i64 = rows.rows().next().unwrap()?.take(0)?;
                return Ok(Outcome::DoneWith(json!(count)));
            }
            "fails" => return Ok(Outcome::Failed(WorkerError::new("as it should"))),
            "writes and fails" => {
                write("")?;
                return Ok(Outcome::Failed(WorkerError::new("after it wrote")));
            }
            "writes and panics" => {
                write("")?;
                std::panic::resume_unwind(Box::new("as it should"));
            }
            "checkpoints" => {
                write("-1")?;
                job.checkpoint()?;
                write("-2")?;
            }
            "checkpoints and fails" => {
                write("-1")?;
                job.checkpoint()?;
                write("-2")?;
                return Ok(Outcome::Failed(WorkerError::new("after a checkpoint")));
            }
            "calls" => {
                write("")?;
                job.call("send", &json!({"name": name}))?;
            }
            "calls only" => drop(job.call("send", &json!({"name": name}))?),
            "snoozes" => {
                write("")?;
                return Ok(Outcome::Snooze(60));
            }
            "cancels" => return Ok(Outcome::Cancel("as it likes".into())),
            "goes on after a refusal" => {
                assert!(
                    job.execute("INSERT INTO things (name) VALUES ('bad')", params![]).is_err()
                );
                write("")?;
            }
            "owes a key" => {
                write("")?;
                job.execute("INSERT INTO children VALUES (4711)", params![])?;
            }
            "takes the transaction" => {
                write("")?;
                job.execute("INSERT INTO doomed VALUES (1)", params![])?;
            }
            "has another enqueued" => {
                job.execute("INSERT INTO orders VALUES (?1)", params![format!("{name}+")])?;
            }
            _ => return (self.0)(job, &name),
        }
        Ok(Outcome::Done)
    }
}
