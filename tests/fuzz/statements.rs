//! The text of a statement.

use proptest::prelude::*;
use proptest::sample::Index;

use crate::mutation::edit;
use crate::sql::sql;
use crate::statement_world::World;
use crate::surface::Surface;

#[test]
fn whatever_the_text_of_a_statement_it_reaches_nothing_that_is_closed() {
    let world = World::new();
    // The bytes of one, of two in one another, and of one with some of them changed.
    let nested = (sql(), any::<Index>(), sql()).prop_map(|(outer, place, inner)| {
        let mut bytes = outer.into_bytes();
        let at = place.index(bytes.len() + 1);
        bytes.splice(at..at, inner.into_bytes());
        bytes
    });
    let edited = (sql(), prop::collection::vec(edit(), 1..5)).prop_map(|(sql, edits)| {
        let mut bytes = sql.into_bytes();
        edits.iter().for_each(|edit| edit.apply(&mut bytes));
        bytes
    });
    let inputs = prop_oneof![
        3 => sql().prop_map(String::into_bytes),
        2 => nested,
        4 => edited,
    ];
    Surface {
        name: "statements",
        cases: 400,
        inputs: inputs.boxed(),
        check: &|input| world.check(input),
    }
    .attack();
}
