//! WASI for components whose language cannot do without it: an interface that gives nothing.
//!
//! There are no files, no network, no environment and no arguments. The time is the host's clock,
//! chance is seeded by the job, and what is written to the standard streams goes to the job's log.
//! Every other call traps, with its name. See wasi.dev, version 0.2.

use wasmtime::component::types::ComponentItem;
use wasmtime::component::{
    Component, ComponentType, Lift, Linker, LinkerInstance, Lower, Resource, ResourceType, WasmList,
};
use wasmtime::{StoreContextMut, Trap};

use super::console::{Console, Stream};
use super::guest::Guest;

/// The type of every WASI handle.
struct Nothing;

/// The handles of the standard streams.
const STDIN: u32 = 0;
const STDOUT: u32 = 1;
const STDERR: u32 = 2;

/// The most bytes that may be written in one call, and the most random bytes that may be asked for.
const WRITE_MAX_BYTES: u64 = 64 << 10;

/// Bytes of a write that are taken between two looks at the deadline.
const PIECE_BYTES: usize = 64 << 10;

type Context<'a> = StoreContextMut<'a, Guest>;

#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
enum StreamError {
    #[component(name = "last-operation-failed")]
    #[allow(dead_code, reason = "it is part of the type; a stream that gives nothing never fails")]
    LastOperationFailed(Resource<Nothing>),
    #[component(name = "closed")]
    Closed,
}

#[derive(ComponentType, Lift, Lower)]
#[component(record)]
struct Datetime {
    seconds: u64,
    nanoseconds: u32,
}

/// Whether an import is WASI's, in a version whose calls are known.
pub(super) fn is_wasi(import: &str) -> bool {
    import.starts_with("wasi:")
        && import.split_once('@').is_some_and(|(_, version)| version.starts_with("0.2."))
}

/// Gives a component what it imports of WASI.
pub(super) fn link(linker: &mut Linker<Guest>, component: &Component) -> wasmtime::Result<()> {
    let engine = linker.engine().clone();
    for (import, item) in component.component_type().imports(&engine) {
        let ComponentItem::ComponentInstance(interface) = item.ty else { continue };
        if !is_wasi(import) {
            continue;
        }
        let mut instance = linker.instance(import)?;
        let name = import.split_once('@').map_or(import, |(name, _)| name);
        for (item, kind) in interface.exports(&engine) {
            match kind.ty {
                ComponentItem::Resource(_) => {
                    instance.resource(item, ResourceType::host::<Nothing>(), |_, _| Ok(()))?
                }
                ComponentItem::ComponentFunc(_) => define(&mut instance, name, item)?,
                _ => {}
            }
        }
    }
    Ok(())
}

fn define(
    at: &mut LinkerInstance<'_, Guest>,
    interface: &str,
    function: &str,
) -> wasmtime::Result<()> {
    let method = function.trim_start_matches("[method]");
    match (interface, method) {
        ("wasi:cli/environment", "get-environment") => at.func_wrap(function, |_: Context<'_>, ()| Ok((Vec::<(String, String)>::new(),))),
        ("wasi:cli/environment", "get-arguments") => at.func_wrap(function, |_: Context<'_>, ()| Ok((Vec::<String>::new(),))),
        ("wasi:cli/environment", "initial-cwd") => at.func_wrap(function, |_: Context<'_>, ()| Ok((None::<String>,))),
        ("wasi:cli/stdin", "get-stdin") => stream(at, function, STDIN),
        ("wasi:cli/stdout", "get-stdout") => stream(at, function, STDOUT),
        ("wasi:cli/stderr", "get-stderr") => stream(at, function, STDERR),
        ("wasi:cli/terminal-stdin" | "wasi:cli/terminal-stdout" | "wasi:cli/terminal-stderr", _) => {
            at.func_wrap(function, |_: Context<'_>, ()| Ok((None::<Resource<Nothing>>,)))
        }
        ("wasi:clocks/wall-clock", "now") => at.func_wrap(function, |context: Context<'_>, ()| {
            let millis = u64::try_from(context.data().now_millis()).unwrap_or_default();
            Ok((Datetime { seconds: millis / 1_000, nanoseconds: (millis % 1_000) as u32 * 1_000_000 },))
        }),
        ("wasi:clocks/wall-clock", "resolution") => {
            at.func_wrap(function, |_: Context<'_>, ()| Ok((Datetime { seconds: 0, nanoseconds: 1_000_000 },)))
        }
        ("wasi:clocks/monotonic-clock", "now") => at.func_wrap(function, |mut context: Context<'_>, ()| {
            let now = u64::try_from(context.data().now_millis()).unwrap_or_default().saturating_mul(1_000_000);
            // The host's clock may be set back.
            let latest = &mut context.data_mut().wasi.latest_nanos;
            // Some runtimes take 0 for a clock that does not run, and give up.
            *latest = now.max(*latest).max(1);
            Ok((*latest,))
        }),
        ("wasi:clocks/monotonic-clock", "resolution") => at.func_wrap(function, |_: Context<'_>, ()| Ok((1_000_000_u64,))),
        ("wasi:random/random", "get-random-bytes") | ("wasi:random/insecure", "get-insecure-random-bytes") => {
            at.func_wrap(function, |mut context: Context<'_>, (length,): (u64,)| {
                if length > WRITE_MAX_BYTES {
                    return Err(wasmtime::Error::msg(format!(
                        "the worker asked for {length} random bytes at once; {WRITE_MAX_BYTES} at most"
                    )));
                }
                let chance = &mut context.data_mut().wasi.chance;
                let bytes = std::iter::repeat_with(|| chance.next().to_le_bytes()).flatten();
                Ok((bytes.take(usize::try_from(length)?).collect::<Vec<u8>>(),))
            })
        }
        ("wasi:random/random", "get-random-u64") | ("wasi:random/insecure", "get-insecure-random-u64") => {
            at.func_wrap(function, |mut context: Context<'_>, ()| Ok((context.data_mut().wasi.chance.next(),)))
        }
        ("wasi:random/insecure-seed", _) => at.func_wrap(function, |mut context: Context<'_>, ()| {
            let chance = &mut context.data_mut().wasi.chance;
            Ok(((chance.next(), chance.next()),))
        }),
        ("wasi:filesystem/preopens", "get-directories") => {
            at.func_wrap(function, |_: Context<'_>, ()| Ok((Vec::<(Resource<Nothing>, String)>::new(),)))
        }
        ("wasi:io/streams", "input-stream.read" | "input-stream.blocking-read") => {
            at.func_wrap(function, |_: Context<'_>, _: (Resource<Nothing>, u64)| Ok((Err::<Vec<u8>, _>(StreamError::Closed),)))
        }
        ("wasi:io/streams", "output-stream.check-write") => {
            at.func_wrap(function, |_: Context<'_>, _: (Resource<Nothing>,)| Ok((Ok::<_, StreamError>(WRITE_MAX_BYTES),)))
        }
        ("wasi:io/streams", "output-stream.write" | "output-stream.blocking-write-and-flush") => {
            at.func_wrap(function, |mut context: Context<'_>, (handle, bytes): (Resource<Nothing>, WasmList<u8>)| {
                let stream = if handle.rep() == STDERR { Stream::Error } else { Stream::Out };
                write(&mut context, stream, &bytes)?;
                Ok((Ok::<_, StreamError>(()),))
            })
        }
        ("wasi:io/streams", "output-stream.flush" | "output-stream.blocking-flush") => {
            at.func_wrap(function, |_: Context<'_>, _: (Resource<Nothing>,)| Ok((Ok::<_, StreamError>(()),)))
        }
        // Streams are always ready. Nothing else can be waited for.
        ("wasi:io/streams", "output-stream.subscribe" | "input-stream.subscribe") => {
            at.func_wrap(function, |_: Context<'_>, _: (Resource<Nothing>,)| Ok((Resource::<Nothing>::new_own(0),)))
        }
        ("wasi:io/poll", "pollable.ready") => at.func_wrap(function, |_: Context<'_>, _: (Resource<Nothing>,)| Ok((true,))),
        ("wasi:io/poll", "pollable.block") => at.func_wrap(function, |_: Context<'_>, _: (Resource<Nothing>,)| Ok(())),
        ("wasi:io/poll", "poll") => at.func_wrap(function, |_: Context<'_>, (polled,): (Vec<Resource<Nothing>>,)| {
            Ok(((0..u32::try_from(polled.len())?).collect::<Vec<u32>>(),))
        }),
        ("wasi:cli/exit", _) => {
            at.func_new(function, |_, _, _, _| Err(wasmtime::Error::msg("the worker ended its process; a worker returns an outcome")))
        }
        _ => {
            let call = format!("{interface} {method}");
            at.func_new(function, move |_, _, _, _| {
                Err(wasmtime::Error::msg(format!("the worker called {call}: there are no files, no network and no waiting in the sandbox")))
            })
        }
    }
}

/// Takes what is written, a piece at a time. The bytes stay in the component's memory, and the
/// deadline is checked between two pieces.
fn write(context: &mut Context<'_>, stream: Stream, bytes: &WasmList<u8>) -> wasmtime::Result<()> {
    let mut from = 0;
    loop {
        let rest = bytes.as_le_slice(&*context).get(from..).unwrap_or_default();
        let Some(piece) = rest.chunks(PIECE_BYTES).next().map(<[u8]>::to_vec) else {
            return Ok(());
        };
        from += piece.len();
        context.data_mut().write(stream, &piece);
        if context.data().is_over() {
            return Err(Trap::Interrupt.into());
        }
    }
}

fn stream(at: &mut LinkerInstance<'_, Guest>, function: &str, handle: u32) -> wasmtime::Result<()> {
    at.func_wrap(function, move |_: Context<'_>, ()| Ok((Resource::<Nothing>::new_own(handle),)))
}

/// What WASI keeps for one instance.
pub(super) struct Wasi {
    pub(super) console: Console,
    chance: Chance,
    latest_nanos: u64,
}

impl Wasi {
    /// The same seed gives the same random bytes, so that an attempt can be repeated.
    pub(super) fn new(seed: u64) -> Self {
        Self { console: Console::default(), chance: Chance(seed), latest_nanos: 0 }
    }
}

/// SplitMix64: chance for hash tables and samples, not for secrets.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
