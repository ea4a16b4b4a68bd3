use {{module}}::CloseStaleOrders;
use verger_worker::prelude::*;
use verger_worker::testing::MemoryHost;

const SETUP: &str = include_str!("../setup.sql");

fn all(more: verger_worker::serde_json::Value) -> verger_worker::serde_json::Value {
    let mut args = json!({"organization_id": null, "actor_id": null});
    args.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    args
}

#[test]
fn old_orders_are_closed_and_a_bad_one_does_not_stop_the_others() {
    let host = MemoryHost::new(SETUP);
    let done = Ok(Outcome::DoneWith(json!({"closed": 2, "errors": 1})));
    assert_eq!(host.perform(&CloseStaleOrders, all(json!({}))), done);
    assert_eq!(host.one::<String>("SELECT group_concat(id) FROM orders WHERE state = 'closed'"), "1,3");
    assert_eq!(host.one::<i64>("SELECT sum(closed) FROM closings"), 2);
    let actions: Vec<String> = host.audited().into_iter().map(|event| event.action).collect();
    assert_eq!(actions, ["order.closed", "order.not_closed", "order.closed"]);
}

#[test]
fn batches_of_one_come_to_the_same() {
    let host = MemoryHost::new(SETUP);
    let done = Ok(Outcome::DoneWith(json!({"closed": 2, "errors": 1})));
    assert_eq!(host.perform(&CloseStaleOrders, all(json!({"batch_size": 1}))), done);
}

#[test]
fn an_arg_of_the_wrong_type_discards_the_job_with_its_name() {
    let host = MemoryHost::new(SETUP);
    let error = host.perform(&CloseStaleOrders, all(json!({"days": "ten"}))).unwrap_err();
    assert!(error.is_final() && error.message().contains("`days`"), "{error}");
}
