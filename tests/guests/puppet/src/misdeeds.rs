//! What no honest worker does.

use std::hint::black_box;

/// Loops for ever, with no host call.
pub fn spin() -> ! {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

/// Calls itself until the stack is used up: the machine's, since its frames hold nothing in memory.
#[allow(unconditional_recursion, reason = "this is the misdeed")]
pub fn recurse(depth: f64) -> f64 {
    recurse(depth + 1.0).sqrt() + depth
}

/// Calls itself until its own stack in memory is used up, which most languages place at the bottom.
#[allow(unconditional_recursion, reason = "this is the misdeed")]
pub fn recurse_in_memory(depth: u64) -> u64 {
    let frame = black_box([depth; 32]);
    frame[0].wrapping_add(recurse_in_memory(depth + 1)).wrapping_add(frame[31])
}

/// Grows its memory by a MiB at a time until that is refused: how many MiB it got.
pub fn grow() -> u32 {
    let mut granted = 0;
    while core::arch::wasm32::memory_grow(0, 16) != usize::MAX {
        granted += 1;
    }
    granted
}

/// Allocates until it aborts.
pub fn eat() -> ! {
    let mut eaten: Vec<Vec<u8>> = Vec::new();
    loop {
        eaten.push(black_box(vec![1; 1 << 20]));
    }
}
