//! Any text as a statement of a worker: see `../statement_world.rs` for what must hold.
#![no_main]

#[path = "../statement_world.rs"]
mod statement_world;

use libfuzzer_sys::fuzz_target;
use statement_world::World;

thread_local! {
    static WORLD: World = World::new();
}

fuzz_target!(|text: &[u8]| {
    WORLD.with(|world| {
        if let Err(wrong) = world.check(text) {
            panic!("{wrong}");
        }
    });
});
