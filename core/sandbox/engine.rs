//! The one engine of the process. Every Verger in it shares the compiler's settings, the pool and
//! the watchdog.

use std::sync::OnceLock;

use wasmtime::component::{HasSelf, Linker};
use wasmtime::{Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use super::guest::{Guest, bindings};
use super::watchdog::Watchdog;

/// The stack a component may use. It is well under the smallest stack a thread has by default,
/// because overflowing the thread's own stack aborts the process.
const WASM_STACK_BYTES: usize = 512 << 10;

/// Components that the pool holds. Beyond them instances are made on demand.
const INSTANCES: u32 = 32;

/// An engine, what every component is linked against, and what moves its epoch.
pub(super) struct Floor {
    pub(super) engine: Engine,
    pub(super) linker: Linker<Guest>,
    pub(super) watchdog: Watchdog,
}

/// Where components run: in a pool, and on demand when that is full.
pub(super) struct Sandbox {
    pub(super) pooled: Floor,
    on_demand: OnceLock<Result<Floor, String>>,
}

impl Sandbox {
    /// The engine without a pool, made when the pool is full for the first time. An attempt is some
    /// 20 µs slower there. Only the memory that each attempt may have bounds its instances.
    pub(super) fn on_demand(&self) -> Result<&Floor, String> {
        let floor =
            self.on_demand.get_or_init(|| Floor::new(None).map_err(|error| format!("{error:#}")));
        floor.as_ref().map_err(Clone::clone)
    }
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
    // The pool saves some 10 µs an attempt. If the address space it reserves cannot be had,
    // instances are made on demand.
    let pooled = Floor::new(Some(pool())).or_else(|_| Floor::new(None))?;
    Ok(Sandbox { pooled, on_demand: OnceLock::new() })
}

impl Floor {
    fn new(pool: Option<PoolingAllocationConfig>) -> wasmtime::Result<Self> {
        let engine = Engine::new(&config(pool)?)?;
        let mut linker = Linker::new(&engine);
        bindings::Worker::add_to_linker::<_, HasSelf<Guest>>(&mut linker, |guest| guest)?;
        let watchdog = Watchdog::start(engine.weak())?;
        Ok(Self { engine, linker, watchdog })
    }
}

/// An engine that compiles for machines of this target triple, and runs nothing.
#[cfg(feature = "compile")]
pub(super) fn engine_for(target: &str) -> wasmtime::Result<Engine> {
    let mut config = config(None)?;
    config.target(target)?;
    Engine::new(&config)
}

/// The name of the interpreter for this kind of machine, where no machine code may be made.
#[cfg(feature = "pulley")]
const INTERPRETER: &str = match (cfg!(target_pointer_width = "32"), cfg!(target_endian = "big")) {
    (false, false) => "pulley64",
    (false, true) => "pulley64be",
    (true, false) => "pulley32",
    (true, true) => "pulley32be",
};

fn config(pool: Option<PoolingAllocationConfig>) -> wasmtime::Result<Config> {
    let mut config = Config::new();
    #[cfg(feature = "pulley")]
    config.target(INTERPRETER)?;
    config.epoch_interruption(true).max_wasm_stack(WASM_STACK_BYTES).wasm_component_model(true);
    // A hostile worker can trap again and again, and a backtrace at each trap would cost more than
    // the names of functions are worth.
    config.wasm_backtrace_max_frames(None);
    if let Some(pool) = pool {
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    }
    Ok(config)
}

/// Core instances, memories and tables that one component may have. Interpreters need that many: 50
/// core modules, 20,000 table elements.
const CORE_INSTANCES_MAX: u32 = 64;
const MEMORIES_MAX: u32 = 4;
const TABLES_MAX: u32 = 64;

fn pool() -> PoolingAllocationConfig {
    let mut pool = PoolingAllocationConfig::new();
    // Each component of the pool can take its full share, and none takes from another. So a
    // component is refused before it begins, or not at all.
    pool.total_component_instances(INSTANCES)
        .total_core_instances(INSTANCES * CORE_INSTANCES_MAX)
        .total_memories(INSTANCES * MEMORIES_MAX)
        .total_tables(INSTANCES * TABLES_MAX)
        .max_core_instances_per_component(CORE_INSTANCES_MAX)
        .max_memories_per_component(MEMORIES_MAX)
        .max_tables_per_component(TABLES_MAX)
        .table_elements(20_000)
        .max_unused_warm_slots(4)
        // The memory that a small worker touched is cleared in place, not unmapped and faulted in
        // again, which takes a third off an attempt. Since Linux 6.7 the kernel says which pages
        // those are. Elsewhere the first MiB is cleared, where the stack of a Rust guest lies.
        .pagemap_scan(Enabled::Auto)
        .linear_memory_keep_resident(256 << 10)
        .table_keep_resident(16 << 10);
    pool
}
