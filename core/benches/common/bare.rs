//! The component that does nothing, with nothing around it, to show what wasmtime itself takes.
#![allow(clippy::unwrap_used, reason = "a bench stops at the first surprise")]

use wasmtime::component::{Component, InstancePre, Linker, Val};
use wasmtime::{
    Config, Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store,
};

pub(crate) const NOOP: &[u8] = include_bytes!("../../../tests/guests/noop.wasm");

/// The component in a fresh instance each time, with no wall around it: no epochs, no limits on
/// memory, tables and what it may send, no host to call.
pub(crate) struct Bare {
    engine: Engine,
    noop: InstancePre<()>,
}

impl Bare {
    pub(crate) fn new() -> Self {
        let mut pool = PoolingAllocationConfig::new();
        pool.pagemap_scan(Enabled::Auto)
            .linear_memory_keep_resident(256 << 10)
            .table_keep_resident(16 << 10);
        let mut config = Config::new();
        config
            .wasm_backtrace_max_frames(None)
            .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        let engine = Engine::new(&config).unwrap();
        let component = Component::from_binary(&engine, NOOP).unwrap();
        let mut linker = Linker::new(&engine);
        linker.define_unknown_imports_as_traps(&component).unwrap();
        Self { noop: linker.instantiate_pre(&component).unwrap(), engine }
    }

    /// Instantiates it, calls it, drops it.
    pub(crate) fn perform(&self, args: &str) {
        let mut store = Store::new(&self.engine, ());
        let instance = self.noop.instantiate(&mut store).unwrap();
        let perform = instance.get_func(&mut store, "perform").unwrap();
        let mut outcome = [Val::Bool(false)];
        perform
            .call(&mut store, &[Val::Option(None), Val::String(args.to_string())], &mut outcome)
            .unwrap();
        assert!(matches!(&outcome[0], Val::Variant(name, None) if name == "done"));
    }
}
