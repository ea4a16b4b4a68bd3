//! The outbox.

use std::time::Duration;

use deliver_email::DeliverEmail;
use serde_json::{Value as Json, json};
use verger::testing::TestVerger;
use verger::{JobState, assert_audited};

use super::{result, run};

const MAIL: &str = "deliver-email";

/// As [`both`], with a mailer of the app's.
fn both_with_mailer(
    mailer: impl Fn(&verger::CapabilityCall<'_>) -> Result<Json, String> + Clone + Send + Sync + 'static,
) -> [TestVerger; 2] {
    let other = mailer.clone();
    let native = TestVerger::with(|builder| {
        builder.without_built_ins().worker(DeliverEmail).slow_capability("mailer", mailer)
    });
    let component = TestVerger::with(|builder| builder.slow_capability("mailer", other));
    [component.reference_tables(), native.reference_tables()]
}

fn mail(test: &TestVerger, id: &str, recipient: &str) {
    let sql = "INSERT INTO email_outbox (id, organization_id, recipient, subject, body, max_attempts, next_attempt_at, created_at, updated_at) VALUES (?1, 'o1', ?2, 's', 'b', 3, 0, 0, 0)";
    test.connection().execute(sql, (id, recipient)).unwrap();
}

fn outbox(test: &TestVerger) -> String {
    test.one("SELECT group_concat(id || ' ' || status || ' ' || attempts, ', ') FROM (SELECT * FROM email_outbox ORDER BY id)")
}

/// What a mailer was asked to send: by the Verger that asked, which is told by its job's worker.
type Requests = std::sync::Arc<std::sync::Mutex<Vec<Json>>>;

#[test]
fn mail_is_sent_once_tried_again_when_it_fails_and_given_up_in_the_end() {
    let asked = Requests::default();
    let requests = asked.clone();
    let tests = both_with_mailer(move |call| {
        requests.lock().unwrap().push(call.request.clone());
        match call.request["to"].as_str() {
            Some("down@b.c") => Err("no route to host".into()),
            Some("never@b.c") => Ok(json!({"sent": false, "reason": "550 no such user"})),
            _ => Ok(json!({"provider_message_id": "p1"})),
        }
    });
    for test in tests {
        asked.lock().unwrap().clear();
        for (id, recipient) in [("a", "x@b.c"), ("b", "down@b.c"), ("c", "never@b.c")] {
            mail(&test, id, recipient);
        }
        let told = |sent, failed, dead| json!({"sent": sent, "failed": failed, "dead": dead});
        assert_eq!(result(&test, MAIL, json!({})), told(1, 1, 1));
        assert_eq!(outbox(&test), "a sent 1, b pending 1, c dead 1");
        assert_audited!(test, action: "email.sent", organization: "o1", subject: ("email", "a"), worker: MAIL);
        assert_audited!(test, action: "email.dead", outcome: "error", subject: ("email", "c"));
        for expected in [told(0, 1, 0), told(0, 0, 1), told(0, 0, 0)] {
            test.clock().advance(Duration::from_secs(3_600));
            assert_eq!(result(&test, MAIL, json!({})), expected);
        }
        assert_eq!(outbox(&test), "a sent 1, b dead 3, c dead 1");
        let asked = asked.lock().unwrap();
        assert_eq!(asked.len(), 5);
        let ids = asked.iter().filter(|request| request["to"] == "down@b.c");
        assert!(
            ids.into_iter().all(|request| request["message_id"] == "<outbox-b@verger.invalid>")
        );
    }
}

#[test]
fn a_success_that_was_heard_is_written_down_though_the_job_is_cancelled_meanwhile() {
    use std::sync::{Arc, Mutex};
    let verger: Arc<Mutex<Option<verger::Verger>>> = Arc::default();
    let asked = Requests::default();
    let (app, requests) = (verger.clone(), asked.clone());
    let tests = both_with_mailer(move |call| {
        requests.lock().unwrap().push(call.request.clone());
        let app = app.lock().unwrap();
        app.as_ref().unwrap().cancel(call.job.unwrap()).unwrap();
        Ok(Json::Null)
    });
    for test in tests {
        *verger.lock().unwrap() = Some((*test).clone());
        asked.lock().unwrap().clear();
        mail(&test, "a", "x@b.c");
        mail(&test, "b", "x@b.c");
        let job = run(&test, MAIL, json!({}));
        assert_eq!(job.state, JobState::Cancelled, "{job:?}");
        assert_eq!(
            (outbox(&test).as_str(), asked.lock().unwrap().len()),
            ("a sent 1, b pending 0", 1)
        );
        assert_audited!(test, action: "email.sent", subject: ("email", "a"));
        *verger.lock().unwrap() = None;
    }
}

#[test]
fn sent_and_then_lost_is_sent_again_under_the_same_id_once_its_claim_is_over() {
    let asked = Requests::default();
    let requests = asked.clone();
    let tests = both_with_mailer(move |call| {
        requests.lock().unwrap().push(call.request["message_id"].clone());
        Ok(Json::Null)
    });
    for test in tests {
        asked.lock().unwrap().clear();
        mail(&test, "a", "x@b.c");
        // As if the power failed behind the sending: nothing of how it ended is kept.
        test.sql("CREATE TRIGGER lost BEFORE UPDATE ON email_outbox WHEN NEW.status IN ('sent', 'dead') BEGIN SELECT RAISE(ABORT, 'the power failed'); END");
        assert_eq!(run(&test, MAIL, json!({})).state, JobState::Discarded);
        assert_eq!(outbox(&test), "a sending 1");
        test.sql("DROP TRIGGER lost");
        test.clock().advance(Duration::from_secs(899));
        assert_eq!(result(&test, MAIL, json!({}))["sent"], 0, "its claim is not over");
        test.clock().advance(Duration::from_secs(1));
        assert_eq!(result(&test, MAIL, json!({}))["sent"], 1);
        assert_eq!(*asked.lock().unwrap(), vec![json!("<outbox-a@verger.invalid>"); 2]);
        assert_eq!(outbox(&test), "a sent 2");
    }
}
