//! Opening the app takes a bounded time, whatever file was dropped in. A file that would keep the
//! compiler busy is refused before it is compiled. One that still takes too long is left behind,
//! and the honest worker beside it runs.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use verger::{CompileCache, OpenError, PerformError, PluginError, Verger};

const NOOP: &[u8] = include_bytes!("guests/noop.wasm");

/// Longer than any machine takes.
const LONG: Duration = Duration::from_secs(24 * 3_600);

/// A component of this core module.
fn module(fields: &str) -> Vec<u8> {
    wat::parse_str(format!("(component (core module {fields}))")).unwrap()
}

/// A component of one function, with two parameters.
fn function(body: &str) -> Vec<u8> {
    module(&format!("(memory 1) (table 1 funcref) (func $f (param i32 i32) {body})"))
}

/// So often, each with its number.
fn each(count: usize, text: impl Fn(usize) -> String) -> String {
    (0..count).map(|number| text(number) + " ").collect()
}

fn times(count: usize, text: &str) -> String {
    format!("{text} ").repeat(count)
}

/// Instances of instances: ten of the component before, so many times over.
fn instances(levels: usize) -> Vec<u8> {
    let ten = |inner: usize| times(10, &format!("(instance (instantiate $c{inner}))"));
    let first = "(component $c0)".to_string();
    let nested = (1..=levels)
        .fold(first, |inner, level| format!("(component $c{level} {inner} {})", ten(level - 1)));
    wat::parse_str(format!("(component {nested} {})", ten(levels))).unwrap()
}

fn nested(levels: usize) -> Vec<u8> {
    wat::parse_str(
        (0..levels).fold("(component)".to_string(), |inner, _| format!("(component {inner})")),
    )
    .unwrap()
}

/// What would take the compiler seconds to minutes, or hundreds of megabytes to more than there is;
/// and what there is too much of.
fn hostile() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let live = format!("(local {}) {}", times(1_900, "i32"), times(200, "local.get 0"));
    let versions = format!(
        "(local {}) {}",
        times(1_000, "i32"),
        times(2_000, "block local.get 1 br_if 0 local.get 1 local.set 2 end")
    );
    let types = |count| {
        each(count, |number| format!("(type (func (result {})))", times(number % 9, "i64")))
    };
    let apart = each(30_000, |number| format!("(data (i32.const {}) \"x\")", number << 16));
    vec![
        (
            "one function without end",
            function(&times(200_000, "local.get 0 drop")),
            "units of code in function 0",
        ),
        (
            "calls of the runtime",
            function(&times(12_000, "local.get 0 local.get 0 local.get 0 table.copy")),
            "units of code in function 0",
        ),
        (
            "loops in loops",
            function(&format!("{} {}", times(400, "loop"), times(400, "local.get 0 br_if 0 end"))),
            "blocks and branches",
        ),
        (
            "blocks in blocks",
            function(&format!("{} {}", times(45_000, "block"), times(45_000, "end"))),
            "blocks and branches",
        ),
        (
            "a table of branches",
            function(&format!("block local.get 0 br_table {} end", times(50_000, "0"))),
            "blocks and branches",
        ),
        ("variables over branches", function(&versions), "times variables"),
        (
            "values on the stack",
            function(&format!("{} {}", times(2_500, "local.get 0"), times(2_500, "drop"))),
            "values at once",
        ),
        ("variables and values", function(&live), "values at once"),
        (
            "a function of 300 parameters",
            module(&format!("(func (param {}))", times(300, "i32"))),
            "parameters and results",
        ),
        ("50,001 functions", module(&times(50_001, "(func)")), "functions and function types"),
        ("50,001 types", module(&types(50_001)), "functions and function types"),
        (
            "half a million entries",
            wat::parse_str(format!("(component {})", times(500_001, "(type u8)"))).unwrap(),
            "entries",
        ),
        ("nine memories", module(&times(9, "(memory 1)")), "memories"),
        ("a table of two million", module("(table 2000000 funcref)"), "elements in its tables"),
        (
            "globals to compute",
            module(&times(30_000, "(global i32 i32.const 1 i32.const 1 i32.add)")),
            "initialise",
        ),
        (
            "one global that takes long to compute",
            module(&format!("(global i32 i32.const 1 {})", times(400_000, "i32.const 1 i32.add"))),
            "initialise",
        ),
        ("data far apart", module(&format!("(memory 65536) {apart}")), "initialise"),
        (
            "elements at a place to compute",
            module(&format!(
                "(func) (table 100000 funcref) (elem (offset i32.const 1 i32.const 1 i32.add) func {})",
                times(95_000, "0")
            )),
            "initialise",
        ),
        ("components in components", nested(40), "components in one another"),
        ("instances of instances", instances(6), "instances of components"),
    ]
}

/// What was dropped into the folder, compiled within that time; the cache is beside it.
fn open(folder: &Path, limit: Duration) -> Verger {
    let cache = CompileCache::Folder(folder.join("cache"));
    Verger::in_memory()
        .without_built_ins()
        .plugins(folder)
        .compile_cache(cache)
        .compile_limit(limit)
        .open()
        .unwrap()
}

#[test]
fn what_would_keep_the_compiler_busy_is_refused_before_it_is_compiled() {
    let folder = tempfile::tempdir().unwrap();
    let hostile = hostile();
    for (number, (_, bytes, _)) in hostile.iter().enumerate() {
        std::fs::write(folder.path().join(format!("{number:02}.wasm")), bytes).unwrap();
    }
    std::fs::write(folder.path().join("noop.wasm"), NOOP).unwrap();
    let verger = open(folder.path(), LONG);
    assert_eq!(verger.refused_plugins().len(), hostile.len());
    for (number, ((what, _, phrase), refusal)) in
        hostile.iter().zip(verger.refused_plugins()).enumerate()
    {
        assert!(matches!(refusal, PluginError::TooComplex { .. }), "{what}: {refusal:?}");
        let text = refusal.to_string();
        for phrase in [&format!("{number:02}.wasm is not compiled"), *phrase, "at most; build it"] {
            assert!(text.contains(phrase), "{what}: {text:?} does not say {phrase:?}");
        }
    }
    verger.perform_now("noop", json!({})).unwrap();
}

#[test]
fn the_apps_own_component_is_held_to_the_same_shapes() {
    let error = Verger::in_memory().component("acme.wasm", nested(40)).open().unwrap_err();
    assert!(
        matches!(&error, OpenError::Worker(PluginError::TooComplex { what, .. }) if what == "acme.wasm"),
        "{error:?}"
    );
}

/// A stack that overflows would end the process. These are no workers, and that is all that is
/// wrong with them.
#[test]
fn what_nests_as_deep_as_it_may_is_compiled() {
    let adds =
        format!("(local i32) local.get 0 {} local.set 2", times(120_000, "local.get 1 i32.add"));
    let unary = format!("(local i32) local.get 0 {} local.set 2", times(240_000, "i32.clz"));
    let loads = format!("(local i32) local.get 0 {} local.set 2", times(100_000, "i32.load"));
    let deep = [
        function(&adds),
        function(&unary),
        function(&loads),
        function(&format!("{} {}", times(39_000, "block"), times(39_000, "end"))),
        function(&format!("{} {}", times(250, "loop"), times(250, "local.get 0 br_if 0 end"))),
        module(&format!("(global i32 i32.const 1 {})", times(150_000, "i32.const 1 i32.add"))),
        nested(15),
    ];
    for (number, bytes) in deep.into_iter().enumerate() {
        let cache = CompileCache::Off;
        let error = Verger::in_memory()
            .component("deep.wasm", bytes)
            .compile_cache(cache)
            .compile_limit(LONG)
            .open()
            .unwrap_err();
        assert!(
            matches!(error, OpenError::Worker(PluginError::Mismatch { .. })),
            "{number}: {error:?}"
        );
    }
}

fn length(mut number: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// Its length, then it.
fn sized(content: &[u8]) -> Vec<u8> {
    [&length(content.len()), content].concat()
}

/// 300 functions, each of which takes the compiler half a second or so: some 24 MB, which as text
/// would be twenty times that.
fn slow() -> Vec<u8> {
    const FUNCTIONS: usize = 300;
    // One of the variables 2 to 98, by chance: what lives where follows no pattern.
    let mut chance = 1_u64;
    let mut variable = || {
        chance =
            chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        2 + (chance >> 33) as u8 % 97
    };
    // The sum of two and of what is in memory there is another.
    let step = |number: usize| {
        let sum = [0x20, variable(), 0x20, variable(), 0x6a];
        let load = [&[0x20, 0, 0x28, 2], &length(number)[..]].concat();
        [&sum[..], &load, &[0x6a, 0x21, variable()]].concat()
    };
    let steps = (0..6_000).flat_map(step);
    // The sum of all is the result, so that none is in vain.
    let sum = (3..=98).flat_map(|variable| [0x20, variable, 0x6a]);
    let code: Vec<u8> =
        [1, 97, 0x7f].into_iter().chain(steps).chain([0x20, 2]).chain(sum).chain([0x0b]).collect();
    let body = sized(&code);
    let section = |id: u8, entries: usize, content: &[u8]| {
        [&[id], &sized(&[length(entries), content.to_vec()].concat())[..]].concat()
    };
    let module = [
        b"\0asm\x01\0\0\0".to_vec(),
        section(1, 1, &[0x60, 2, 0x7f, 0x7f, 1, 0x7f]),
        section(3, FUNCTIONS, &[0; FUNCTIONS]),
        section(5, 1, &[0, 1]),
        section(10, FUNCTIONS, &body.repeat(FUNCTIONS)),
    ];
    [&b"\0asm\x0d\0\x01\0\x01"[..], &sized(&module.concat())].concat()
}

/// The honest worker once more, as large as that, for its bytes are followed by a custom section.
fn padded(bytes: usize) -> Vec<u8> {
    // Its length in five bytes, then its name.
    let length = bytes - NOOP.len() - 6;
    let digits =
        (0..5).map(|digit| (length >> (7 * digit) & 0x7f) as u8 | if digit < 4 { 0x80 } else { 0 });
    let head = std::iter::once(0).chain(digits).chain([3]).chain(*b"pad");
    NOOP.iter().copied().chain(head).chain(std::iter::repeat(0)).take(bytes).collect()
}

#[test]
fn what_takes_longer_than_there_is_time_is_left_behind() {
    const LIMIT: Duration = Duration::from_secs(3);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("noop.wasm"), NOOP).unwrap();
    assert!(open(folder.path(), LONG).refused_plugins().is_empty());
    let slow = slow();
    std::fs::write(folder.path().join("slow.wasm"), &slow).unwrap();
    std::fs::write(folder.path().join("larger.wasm"), padded(slow.len() + 100)).unwrap();

    let verger = open(folder.path(), LIMIT);
    let refused: Vec<String> = verger.refused_plugins().iter().map(ToString::to_string).collect();
    // In the order of their names; they had their turns in the order of their sizes.
    let [larger, slow] = &verger.refused_plugins()[..] else { panic!("{refused:#?}") };
    assert!(matches!(slow, PluginError::TooSlow { limit: LIMIT, .. }), "{slow:?}");
    assert!(
        matches!(larger, PluginError::NoTimeLeft { by, limit: LIMIT, .. } if by.contains("slow.wasm")),
        "{larger:?}"
    );
    for phrase in [
        "larger.wasm was not compiled",
        "slow.wasm took what was left of the 3s",
        "remove that one",
        "compile_limit",
    ] {
        assert!(refused[0].contains(phrase), "{refused:#?}");
    }
    for phrase in ["slow.wasm was not compiled within the 3s", "a smaller build", "compile_limit"] {
        assert!(refused[1].contains(phrase), "{refused:#?}");
    }
    // What was compiled before needs no time.
    verger.perform_now("noop", json!({})).unwrap();
    #[cfg(target_os = "linux")]
    the_compiler_ends();

    // With the slow one gone, the larger one is compiled: the same worker once more.
    std::fs::remove_file(folder.path().join("slow.wasm")).unwrap();
    std::fs::remove_file(folder.path().join("noop.wasm")).unwrap();
    let verger = open(folder.path(), LONG);
    assert!(verger.refused_plugins().is_empty());
    verger.perform_now("noop", json!({})).unwrap();
}

/// All of it would take some two minutes; the thread ends with the function it is at.
#[cfg(target_os = "linux")]
fn the_compiler_ends() {
    let compiling = || {
        let threads = std::fs::read_dir("/proc/self/task").unwrap();
        let names = threads
            .filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("comm")).ok());
        names.filter(|name| name.starts_with("verger-compiler")).count()
    };
    let began = std::time::Instant::now();
    while compiling() > 0 {
        assert!(began.elapsed() < Duration::from_secs(30), "it goes on");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn without_any_time_only_what_was_compiled_before_is_there() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("noop.wasm"), NOOP).unwrap();
    let verger = open(folder.path(), Duration::ZERO);
    assert!(
        matches!(verger.refused_plugins()[..], [PluginError::TooSlow { .. }]),
        "{:?}",
        verger.refused_plugins()
    );
    assert!(
        matches!(verger.perform_now("noop", json!({})), Err(PerformError::Refused(_))),
        "it is not there"
    );
    open(folder.path(), LONG);
    open(folder.path(), Duration::ZERO).perform_now("noop", json!({})).unwrap();
}

/// Without them the app does not open.
#[test]
fn the_apps_own_and_the_built_in_workers_are_compiled_however_little_time_there_is() {
    let verger = Verger::in_memory()
        .component("noop.wasm", NOOP)
        .compile_cache(CompileCache::Off)
        .compile_limit(Duration::ZERO)
        .open()
        .unwrap();
    verger.perform_now("noop", json!({})).unwrap();
    verger.migrate_reference().unwrap();
    verger
        .perform_now("reconcile-memberships", json!({"organization_id": null, "actor_id": null}))
        .unwrap();
}
