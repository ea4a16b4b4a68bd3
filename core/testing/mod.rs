//! The test kit.
mod clock;
pub use clock::ManualClock;
