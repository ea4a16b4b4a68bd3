//! One attempt of a hostile worker, and what is expected of it.

use serde_json::{Value as Json, json};

/// A case: what is tried, the wall, the code of the error, and what its message has to name.
pub(super) struct Case {
    pub(super) tried: &'static str,
    pub(super) wall: &'static str,
    pub(super) steps: Json,
    pub(super) code: &'static str,
    pub(super) names: &'static str,
}

pub(super) const AUTHORIZER: &str = "authorizer";
pub(super) const DEADLINE: &str = "deadline";
pub(super) const LIMIT: &str = "SQL limit";
pub(super) const BOUND: &str = "bound of the call";

pub(super) fn case(
    tried: &'static str,
    wall: &'static str,
    steps: Json,
    code: &'static str,
    names: &'static str,
) -> Case {
    Case { tried, wall, steps, code, names }
}

pub(super) fn query(
    tried: &'static str,
    wall: &'static str,
    sql: &str,
    code: &'static str,
    names: &'static str,
) -> Case {
    case(tried, wall, json!([["query", sql, []]]), code, names)
}

pub(super) fn execute(
    tried: &'static str,
    wall: &'static str,
    sql: &str,
    code: &'static str,
    names: &'static str,
) -> Case {
    case(tried, wall, json!([["execute", sql, []]]), code, names)
}

/// One step as all that an attempt does.
pub(super) fn step(step: Json) -> Json {
    json!([step])
}
