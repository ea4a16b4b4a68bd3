//! What the handlers of one connection share: whose statements are prepared, and when one is to end.

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use rusqlite::hooks::{AuthAction, AuthContext};
use verger_worker::Verb;

use crate::grant::Effective;
use crate::mutex::lock;
use crate::store::authorizer::authorize;
use crate::store::full_text::{self, Words};
use crate::store::page_count::PageCount;
use crate::store::statement_context::StatementContext;
use crate::store::stop_signal::StopSignal;
use crate::store::temp_space::TempSpace;

/// SQLite virtual-machine steps between two looks at the deadline: some microseconds. With looks
/// after each 64 a sweep's read took 8 % longer.
pub(super) const STEPS_BETWEEN_LOOKS: i32 = 512;

/// The same for a program that calls functions, because one may work for milliseconds on a long
/// text.
pub(super) const STEPS_BETWEEN_LOOKS_AT_CALLS: i32 = 8;

/// Steps after which a look reads the clock. The other looks only see whether it ticked. They cost
/// next to nothing, but on a busy machine the tick may come late.
pub(super) const STEPS_BETWEEN_READINGS: i32 = 2048;

pub(super) const STEPS_BETWEEN_READINGS_AT_CALLS: i32 = 32;

/// Steps of SQLite's planner between two looks, which all read the clock. These steps are longer.
pub(super) const STEPS_BETWEEN_LOOKS_AT_PREPARE: i32 = 16;

/// Ticks every few milliseconds while a component runs.
static TICKS: AtomicU64 = AtomicU64::new(0);

/// Makes every statement that is being stepped look at its deadline.
#[cfg(feature = "wasm")]
pub(crate) fn tick_clock() {
    TICKS.fetch_add(1, Ordering::Relaxed);
}

/// Who the statements being prepared belong to.
pub(super) enum Holder {
    /// Nobody: everything is denied.
    Nobody,
    /// The engine.
    Engine,
    /// A worker, with what it may touch.
    Worker(Arc<Effective>),
}

/// The limit for which a statement was ended, apart from its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Overdrawn {
    /// The memory that SQL may take.
    Memory,
    /// The bytes that a transaction may write.
    Written,
}

/// The state the handlers of one connection share.
pub(crate) struct Handlers {
    pub(super) state: Mutex<State>,
    pub(super) looks: AtomicU32,
    /// Counts looks, of which some read the clock.
    pub(super) quick_looks: AtomicU32,
    /// The value of `TICKS` at the last look.
    pub(super) seen: AtomicU64,
    pub(super) pages: PageCount,
    /// Words of full-text searches since the last look.
    pub(super) words: Words,
    /// Whether a statement of the tenant's walls is prepared or stepped, inside a worker's.
    pub(super) inner: Arc<AtomicBool>,
}

pub(super) struct State {
    pub(super) holder: Holder,
    /// The present statement, and whether the connection confines.
    pub(super) around: StatementContext,
    pub(super) stop_signal: Option<StopSignal>,
    /// While a worker's statement is prepared, looked at or stepped: the bytes of memory its run
    /// may hold. Its deadline then ends it, whoever's statement runs.
    pub(super) watched: Option<usize>,
    pub(super) temp_space: Option<Arc<TempSpace>>,
    pub(super) denied: Option<String>,
    /// The first write of the statement being prepared, except triggers' writes.
    pub(super) write: Option<(Verb, String)>,
    /// The columns that it sets, if it updates.
    pub(super) sets: Vec<String>,
    /// What SQLite held in this process when the run began, in bytes.
    pub(super) memory: i64,
    /// How much the connection may have written before a statement is ended.
    pub(super) may_write: u64,
    /// Whether no lock may be waited for.
    pub(super) is_impatient: bool,
    /// The limit for which a statement was ended.
    pub(super) overdrawn: Option<Overdrawn>,
}

impl State {
    /// Bytes that the run's SQL takes, and what the run holds besides it.
    pub(super) fn taken(&self) -> usize {
        let grown = usize::try_from(memory_used().saturating_sub(self.memory)).unwrap_or_default();
        grown.saturating_add(self.temp_space.as_ref().map_or(0, |space| space.held()))
    }
}

impl Handlers {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    pub(super) fn allow(&self, context: &AuthContext<'_>) -> bool {
        if self.inner.load(Ordering::Relaxed) {
            return true;
        }
        let mut state = self.state();
        if matches!(state.holder, Holder::Worker(_))
            && context.accessor.is_none()
            && let Some((verb, table)) = write_of(&context.action)
        {
            // SQLite reports this before anything the statement reads.
            state.around.target.get_or_insert_with(|| table.to_string());
            state.write.get_or_insert_with(|| (verb, table.to_string()));
            if let AuthAction::Update { column_name, .. } = context.action {
                state.sets.push(column_name.to_string());
            }
        }
        let verdict = match &state.holder {
            Holder::Engine => return true,
            Holder::Nobody => Err("no run is in progress".to_string()),
            Holder::Worker(grant) => authorize(grant, &state.around, context),
        };
        match verdict {
            Ok(()) => true,
            Err(reason) => {
                state.denied.get_or_insert(reason);
                false
            }
        }
    }

    pub(super) fn is_over(&self) -> bool {
        let state = self.state();
        state.watched.is_some() && state.stop_signal.as_ref().is_some_and(StopSignal::is_over)
    }

    /// Whether a statement must end, because its time is over, or its run holds more memory than it
    /// is granted. What others in the process make SQLite hold meanwhile counts too, because SQLite
    /// keeps one count.
    fn is_to_end(&self) -> bool {
        // One thread looks, so no addition or exchange in one step is needed.
        let (looks, ticks) =
            (self.looks.load(Ordering::Relaxed).wrapping_add(1), TICKS.load(Ordering::Relaxed));
        self.looks.store(looks, Ordering::Relaxed);
        if !looks.is_multiple_of(self.quick_looks.load(Ordering::Relaxed))
            && ticks == self.seen.load(Ordering::Relaxed)
        {
            return false;
        }
        self.seen.store(ticks, Ordering::Relaxed);
        if self.is_over() {
            return true;
        }
        let mut state = self.state();
        let Some(most) = state.watched else { return false };
        if state.taken() > most {
            state.overdrawn = Some(Overdrawn::Memory);
        } else if self.pages.bytes_written() > state.may_write {
            state.overdrawn = Some(Overdrawn::Written);
        }
        state.overdrawn.is_some()
    }

    /// Whether a lock may still be waited for.
    pub(super) fn may_wait(&self) -> bool {
        let state = self.state();
        !state.is_impatient && !state.stop_signal.as_ref().is_some_and(StopSignal::is_over)
    }
}

/// The progress handler.
#[allow(unsafe_code, reason = "SQLite calls it through a pointer")]
pub(super) unsafe extern "C" fn look(handlers: *mut c_void) -> c_int {
    // SAFETY: it is the pointer that was installed, to the handlers of the connection that calls.
    let handlers = unsafe { &*handlers.cast::<Handlers>() };
    // A refused search is over, and stays refused.
    if handlers.words.load(Ordering::Relaxed) < full_text::REFUSED {
        handlers.words.store(0, Ordering::Relaxed);
    }
    c_int::from(handlers.is_to_end())
}

pub(super) fn memory_used() -> i64 {
    // SAFETY: it reads a counter, takes no argument, and may be called at any time from any thread.
    #[allow(unsafe_code, reason = "rusqlite has no safe form of it")]
    unsafe {
        rusqlite::ffi::sqlite3_memory_used()
    }
}

fn write_of<'a>(action: &AuthAction<'a>) -> Option<(Verb, &'a str)> {
    match *action {
        AuthAction::Insert { table_name } => Some((Verb::Insert, table_name)),
        AuthAction::Update { table_name, .. } => Some((Verb::Update, table_name)),
        AuthAction::Delete { table_name } => Some((Verb::Delete, table_name)),
        _ => None,
    }
}

/// Sets the holder back to nobody at the end of a turn.
pub(super) struct HolderReset<'a>(pub(super) &'a Handlers);

impl Drop for HolderReset<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        (state.holder, state.watched) = (Holder::Nobody, None);
    }
}
