use super::*;

#[test]
fn a_batch_of_audit_events_loses_only_the_bad_ones() {
    let host = MemoryHost::new("");
    let events =
        [AuditEvent::success("a.b"), AuditEvent::success("nonsense"), AuditEvent::success("c.d")];
    assert_eq!(Context::new(&host).audit_batch(&events), Ok(()));
    let actions: Vec<String> =
        host.pending.borrow().audit.iter().map(|event| event.action.clone()).collect();
    assert_eq!(actions, ["a.b", "c.d"]);
}

#[test]
fn what_is_kept_and_enqueued_commits_with_the_job_and_not_without() {
    struct Keeper;
    impl Worker for Keeper {
        fn manifest(&self) -> crate::Manifest {
            crate::Manifest::new("keeper", "1")
        }

        fn perform(
            &self,
            job: &Context<'_>,
            _: Option<&Scope>,
            args: &Args,
        ) -> Result<Outcome, WorkerError> {
            job.set_state("seen", args.get::<i64>("seen")?)?;
            job.enqueue(NewJob::new("other", serde_json::json!({})).priority(1))?;
            let undone = job.savepoint()?;
            job.set_state("seen", 0)?;
            job.enqueue(NewJob::new("third", serde_json::json!({})))?;
            undone.rollback()?;
            match args.opt::<bool>("fail")? {
                Some(true) => Err(WorkerError::new("as told")),
                _ => Ok(Outcome::Done),
            }
        }
    }
    let host = MemoryHost::new("");
    let run = |args: Json| host.perform(&Keeper, args);
    assert_eq!(run(serde_json::json!({"seen": 3})), Ok(Outcome::Done));
    let failed = run(serde_json::json!({"seen": 4, "fail": true}));
    assert_eq!(failed.map_err(|error| error.is_final()), Err(false));
    let refused = run(serde_json::json!({"seen": "three"}));
    assert_eq!(refused.map_err(|error| error.is_final()), Err(true));
    let acme = serde_json::json!({"seen": 5, "organization_id": "acme", "actor_id": null});
    assert_eq!(run(acme), Ok(Outcome::Done));
    assert_eq!(host.kept_state(None, "seen"), Value::Integer(3));
    assert_eq!(host.kept_state(Some("acme"), "seen"), Value::Integer(5));
    let workers: Vec<String> = host.enqueued().iter().map(|job| job.worker().to_string()).collect();
    assert_eq!(workers, ["other", "other"]);
}

#[test]
fn a_plan_needs_no_parameters() {
    let host =
        MemoryHost::new("CREATE TABLE t (id TEXT, at INTEGER); CREATE INDEX t_at ON t (at);");
    assert_eq!(host.plan("SELECT id FROM t WHERE at < ?1"), "SEARCH t USING INDEX t_at (at<?)");
}

#[test]
fn a_cancellation_is_met_at_the_checkpoint_it_was_set_for() {
    let host = MemoryHost::new("");
    host.cancel_after(1);
    let job = Context::new(&host);
    assert_eq!(host.batch("BEGIN IMMEDIATE").and_then(|()| job.checkpoint()), Ok(()));
    assert_eq!(job.checkpoint().map_err(|error| error.code), Err(code::CANCELLED.to_string()));
}
