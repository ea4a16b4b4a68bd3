//! More threads for a queue that asks for more than one job at a time.
//!
//! The thread that ticks performs jobs of every queue, one at a time. A queue with a concurrency of
//! *n* has *n* − 1 helpers beside it: each with a connection of its own, claiming one job at a time
//! from that queue and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::executor::Executor;
use super::shared::Engine;
use super::tick;
use crate::store::StoreError;

/// The longest sleep between two looks at the queue. Whatever wakes the loop wakes its helpers too.
const SLEEP_MAX: Duration = Duration::from_secs(30);

/// How long after a failure the next try is made.
const AFTER_ERROR: Duration = Duration::from_secs(1);

/// Starts the helpers of every queue.
pub(super) fn start(
    inner: &Arc<Engine>,
    stopping: &Arc<AtomicBool>,
) -> std::io::Result<Vec<JoinHandle<()>>> {
    let mut helpers = Vec::new();
    for (queue, concurrency) in &inner.settings.concurrency {
        for number in 1..*concurrency {
            let (inner, stopping, queue) = (Arc::clone(inner), Arc::clone(stopping), queue.clone());
            let builder = std::thread::Builder::new()
                .name(format!("verger-{queue}-{number}"))
                .stack_size(super::tick_loop::STACK_BYTES);
            helpers.push(builder.spawn(move || help(&inner, &queue, &stopping))?);
        }
    }
    Ok(helpers)
}

fn help(inner: &Engine, queue: &str, stopping: &AtomicBool) {
    let mut executor = inner.executor();
    let mut heard = inner.notifier.rings();
    while !stopping.load(Ordering::Relaxed) {
        let pause = match perform_due(inner, &mut executor, queue, stopping) {
            Ok(pause) => pause,
            Err(error) => {
                tracing::error!(queue, error = %error, cause = ?std::error::Error::source(&error), "a helper of the queue could not go on; it tries again");
                AFTER_ERROR
            }
        };
        if !pause.is_zero() && !stopping.load(Ordering::Relaxed) {
            inner.notifier.wait_since(&mut heard, pause);
        }
    }
    inner.put_back(executor);
}

/// Performs what is due in the queue; how long to sleep then.
fn perform_due(
    inner: &Engine,
    executor: &mut Executor,
    queue: &str,
    stopping: &AtomicBool,
) -> Result<Duration, StoreError> {
    loop {
        let next = tick::next_due_in(inner, executor, queue)?;
        let now = inner.clock.now();
        match next {
            Some(next) if next <= now => {}
            Some(next) => return Ok(next.since(now).min(SLEEP_MAX)),
            None => return Ok(SLEEP_MAX),
        }
        if stopping.load(Ordering::Relaxed)
            || tick::perform_one(inner, executor, queue, stopping)? == 0
        {
            // Someone else had it.
            return Ok(Duration::from_millis(1));
        }
    }
}
