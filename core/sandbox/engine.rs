//! The one engine of the process: every Verger in it shares the compiler's settings, the pool and
//! the watchdog.

use std::sync::OnceLock;

use wasmtime::component::{HasSelf, Linker};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::guest::{Guest, bindings};
use super::watchdog::Watchdog;

/// Stack a component may use. Well under the smallest stack a thread has by default, since
/// overflowing the thread's own aborts the process.
const WASM_STACK_BYTES: usize = 512 << 10;

/// Components that can run at the same time in one process.
const INSTANCES: u32 = 32;

/// The engine, and what every component is linked against.
pub(super) struct Sandbox {
    pub(super) engine: Engine,
    pub(super) linker: Linker<Guest>,
    pub(super) watchdog: Watchdog,
}

/// The sandbox of this process, made at its first use.
pub(super) fn sandbox() -> Result<&'static Sandbox, String> {
    static SANDBOX: OnceLock<Result<Sandbox, String>> = OnceLock::new();
    SANDBOX
        .get_or_init(|| make().map_err(|error| format!("{error:#}")))
        .as_ref()
        .map_err(Clone::clone)
}

fn make() -> wasmtime::Result<Sandbox> {
    // The pool saves some 10 µs an attempt. Where the address space it reserves is not to be had,
    // instances are made on demand.
    let engine = Engine::new(&config(Some(pool()))).or_else(|_| Engine::new(&config(None)))?;
    let mut linker = Linker::new(&engine);
    bindings::Worker::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
    let watchdog = Watchdog::start(engine.weak())?;
    Ok(Sandbox { engine, linker, watchdog })
}

fn config(pool: Option<PoolingAllocationConfig>) -> Config {
    let mut config = Config::new();
    config.epoch_interruption(true).max_wasm_stack(WASM_STACK_BYTES).wasm_component_model(true);
    // Names of functions in a trap's message are not worth a backtrace at each trap a hostile
    // worker makes.
    config.wasm_backtrace_max_frames(None);
    if let Some(pool) = pool {
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    }
    config
}

fn pool() -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(INSTANCES)
        .total_core_instances(INSTANCES * 16)
        .total_memories(INSTANCES * 2)
        .total_tables(INSTANCES * 8)
        // Interpreters need that much: 50 core modules, 20,000 table elements.
        .max_core_instances_per_component(64)
        .max_memories_per_component(4)
        .max_tables_per_component(64)
        .table_elements(20_000)
        .max_unused_warm_slots(4)
        // What a small worker touches is cleared in place rather than unmapped and faulted in
        // again: a third off an attempt. Where the kernel says which pages those are (Linux 6.7),
        // wherever they lie: the stack of a Rust guest is in its first MiB, at the far end.
        .pagemap_scan(Enabled::Auto)
        .linear_memory_keep_resident(256 << 10)
        .table_keep_resident(16 << 10);
    pool
}
