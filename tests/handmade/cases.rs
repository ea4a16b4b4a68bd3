//! What a component can get wrong, or do wrong, beyond what any language lets its worker write.
//!
//! One file because it is one table: each entry is a component and the wall that stops it.

use super::{ANSWER, DATA, EXPORTS, Handmade, OUTCOME, SELECT, push_length};

/// A component, and what becomes of it.
pub(crate) struct Case {
    pub(crate) tried: &'static str,
    pub(crate) wall: &'static str,
    pub(crate) component: Vec<u8>,
    /// `refused` when it is not even taken for a worker; else the code of the failed attempt, or
    /// `ok`.
    pub(crate) code: &'static str,
    /// What the reason has to name.
    pub(crate) names: &'static str,
}

const VALIDATION: &str = "validation";
const SHAPE: &str = "shape";
const LINKER: &str = "linker";
const CONVENTION: &str = "calling convention";
const HANDLES: &str = "handles";
const MEMORY: &str = "memory limit";
const POOL: &str = "pool";
const DEADLINE: &str = "deadline";
const FUEL: &str = "hostcall fuel";
const INSTANCE: &str = "instance";

/// The worker each case makes its own.
fn worker() -> Handmade {
    Handmade::new("handmade")
}

fn case(
    tried: &'static str,
    wall: &'static str,
    component: &Handmade,
    code: &'static str,
    names: &'static str,
) -> Case {
    Case { tried, wall, component: component.bytes(), code, names }
}

fn refused(
    tried: &'static str,
    wall: &'static str,
    component: &Handmade,
    names: &'static str,
) -> Case {
    case(tried, wall, component, "refused", names)
}

fn trap(
    tried: &'static str,
    wall: &'static str,
    component: &Handmade,
    names: &'static str,
) -> Case {
    case(tried, wall, component, "trap", names)
}

/// All of them. Those that run on until `describe` is over take 2 s each.
pub(crate) fn all() -> Vec<Case> {
    [
        imports(),
        exports(),
        sizes(),
        describing(),
        handles(),
        sent(),
        returned(),
        reallocs(),
        running(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn imports() -> Vec<Case> {
    let foreign = |import: &str| worker().fields(format!(r#"(import "{import}" (instance))"#));
    let clock = |import| worker().clock(import);
    vec![
        refused("imports files", LINKER, &foreign("acme:files/open@1.0.0"), "imports `acme:files/open@1.0.0`"),
        refused("imports an interface nobody has", LINKER, &foreign("verger:worker/secrets@0.1.0"), "verger:worker/secrets"),
        refused("imports another's package", LINKER, &foreign("verger:workers/store@0.1.0"), "verger:workers/store"),
        refused(
            "imports a function of no interface",
            LINKER,
            &worker().fields(r#"(import "exec" (func (param "command" string)))"#),
            "imports `exec`",
        ),
        refused(
            "imports a version to come",
            LINKER,
            &clock(r#"(import "verger:worker/clock@0.2.0" (instance $clock (export "now" (func (result s64)))))"#),
            "verger:worker/clock@0.2.0",
        ),
        refused(
            "imports a function that is not there",
            LINKER,
            &clock(
                r#"(import "verger:worker/clock@0.1.0" (instance $clock (export "now" (func (result s64))) (export "set" (func (param "to" s64)))))"#,
            ),
            "set",
        ),
        refused(
            "imports a function under another type",
            LINKER,
            &clock(r#"(import "verger:worker/clock@0.1.0" (instance $clock (export "now" (func (result u64)))))"#),
            "now",
        ),
        refused(
            "imports a resource where a function is",
            LINKER,
            &worker().fields(r#"(import "verger:worker/host@0.1.0" (instance (export "call" (type (sub resource)))))"#),
            "call",
        ),
    ]
}

fn exports() -> Vec<Case> {
    let describe = r#"(func (export "describe") (result string) (canon lift (core func $main "describe") (memory $libc "memory")))"#;
    let perform = r#"(func (export "perform") (result string) (canon lift (core func $main "describe") (memory $libc "memory")))"#;
    vec![
        refused("exports no perform", LINKER, &worker().exports(describe), "perform"),
        refused(
            "exports perform under another type",
            LINKER,
            &worker().exports(format!("{describe} {perform}")),
            "perform",
        ),
        refused(
            "exports describe twice",
            VALIDATION,
            &worker().exports(format!("{EXPORTS} {describe}")),
            "describe",
        ),
        refused(
            "an asynchronous perform",
            VALIDATION,
            &worker()
                .exports(EXPORTS.replace("(post-return (func $main \"post-return\"))", "async")),
            "async",
        ),
        refused(
            "core functions lifted under a type that is not theirs",
            VALIDATION,
            &worker().exports(EXPORTS.replace("(param \"scope\" (option $scope))", "")),
            "do not match",
        ),
        refused(
            "text with no memory to be in",
            VALIDATION,
            &worker().exports(EXPORTS.replace("(memory $libc \"memory\")", "")),
            "memory",
        ),
    ]
}

/// What it is built of.
fn sizes() -> Vec<Case> {
    let many = |count: usize, field: &str| vec![field; count].join(" ");
    let modules =
        format!("(core module $empty) {}", many(100, "(core instance (instantiate $empty))"));
    let instances =
        format!("(component $empty) {}", many(5_000, "(instance (instantiate $empty))"));
    let one = "(component $c0 (core module $m) (core instance (instantiate $m)))".to_string();
    let twice = |inner: usize, name: &str| {
        format!("{name} (instance (instantiate $c{inner})) (instance (instantiate $c{inner}))")
    };
    let powers = (1..41).fold(one.clone(), |text, level| {
        format!("(component $c{level} {})", twice(level - 1, &text))
    });
    // The same side by side, each reaching for the one before.
    let outer =
        |inner: usize| twice(inner, &format!("(alias outer 1 $c{inner} (component $c{inner}))"));
    let siblings = (1..41)
        .fold(one, |text, level| format!("{text} (component $c{level} {})", outer(level - 1)));
    vec![
        Case {
            tried: "100,000 components one in another",
            wall: SHAPE,
            component: nested(100_000),
            code: "refused",
            names: "in one another",
        },
        refused(
            "5,000 instances of a component",
            VALIDATION,
            &worker().fields(instances),
            "instances",
        ),
        refused(
            "2^40 instances out of 41 lines",
            SHAPE,
            &worker().fields(format!("{powers} (instance (instantiate $c40))")),
            "in one another",
        ),
        refused(
            "2^40 instances, side by side",
            SHAPE,
            &worker().fields(format!("{siblings} (instance (instantiate $c40))")),
            "instances of",
        ),
        refused("100 core instances", POOL, &worker().fields(modules), "instances"),
        refused("five memories", POOL, &worker().main(many(5, "(memory 1)")), "memor"),
        refused("100 tables", POOL, &worker().main(many(100, "(table 1 funcref)")), "tables"),
        refused("a table of a million", POOL, &worker().main("(table 1000000 funcref)"), "table"),
        refused("a shared memory", VALIDATION, &worker().main("(memory 1 2 shared)"), "threads"),
        refused(
            "a memory of 128 MiB",
            MEMORY,
            &worker().memory(r#"(memory (export "memory") 2048)"#),
            "memory",
        ),
        refused(
            "a memory of 2^48 bytes",
            MEMORY,
            &worker().main("(memory i64 0x100000000)"),
            "memory",
        ),
        case(
            "a memory of 16 MiB",
            MEMORY,
            &worker().memory(r#"(memory (export "memory") 256)"#),
            "memory",
            "8192 KiB",
        ),
        refused(
            "data beyond its memory",
            INSTANCE,
            &worker().main(r#"(data (i32.const -1) "xxxx")"#),
            "out of bounds",
        ),
        refused(
            "an element beyond its table",
            INSTANCE,
            &worker().main("(table 1 funcref) (elem (i32.const 5) $begin)"),
            "out of bounds",
        ),
    ]
}

/// Components one in another: too deep for the language of the other cases.
fn nested(depth: usize) -> Vec<u8> {
    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";
    const COMPONENT: u8 = 4;
    (0..depth).fold(EMPTY.to_vec(), |inner, _| {
        let mut outer = [EMPTY, &[COMPONENT]].concat();
        push_length(&mut outer, inner.len());
        [outer, inner].concat()
    })
}

/// What it does before it has a database.
fn describing() -> Vec<Case> {
    let described = |bytes: &[u8]| Handmade::described(bytes);
    let pair = |pointer: i32, length: i32| {
        worker().describe(format!(
            "(i32.store (i32.const {DATA}) (i32.const {pointer})) (i32.store offset=4 (i32.const {DATA}) (i32.const {length})) i32.const {DATA}"
        ))
    };
    let deep = format!(
        r#"{{"name":"handmade","version":"1","args":{{"a":{{"default":{}"#,
        "[".repeat(100_000)
    );
    let start = |body: &str| worker().main(format!("(start $start) (func $start {body})"));
    vec![
        refused("a start function without end", DEADLINE, &start("(loop $on (br $on))"), "within 2 s"),
        refused("describes itself without end", DEADLINE, &worker().describe("(loop $on (br $on)) i32.const 0"), "within 2 s"),
        refused("a start function that traps", INSTANCE, &start("unreachable"), "unreachable"),
        refused("traps when it describes itself", INSTANCE, &worker().describe("unreachable"), "unreachable"),
        refused("its description is nowhere", CONVENTION, &worker().describe("i32.const -8"), "out of bounds"),
        refused("its description is at an odd address", CONVENTION, &worker().describe("i32.const 9"), "not aligned"),
        refused("its description begins beyond its memory", CONVENTION, &pair(0x7fff_ffff, 10), "out of bounds"),
        refused("its description wraps around", CONVENTION, &pair(-16, 32), "out of bounds"),
        refused("its description claims 100 MB", CONVENTION, &pair(0, 100_000_000), "out of bounds"),
        refused("its description has 32 MB", FUEL, &pair(0, 32 << 20).memory(r#"(memory (export "memory") 600)"#), "more in one call"),
        refused("its description is no UTF-8", CONVENTION, &described(b"{\"name\":\"\xff\xfe\"}"), "utf-8"),
        refused("its description is no JSON", "manifest", &described(b"\0\0\0\0"), "manifest"),
        refused("its description nests 100,000 deep", "manifest", &described(deep.as_bytes()), "recursion"),
        case(
            "queries while it describes itself",
            "no database there",
            // It goes on only if the answer is an error.
            &worker().describe(format!(
                "(call $open) drop (br_if 0 (i32.const 8) (i32.eq (i32.const 1) (i32.load8_u (i32.const {ANSWER})))) drop unreachable"
            )),
            "ok",
            "",
        ),
    ]
}

/// Numbers in the place of cursors and savepoints.
fn handles() -> Vec<Case> {
    let next = |handle: &str| {
        worker().perform(format!("(call $next {handle} (i32.const 1) (i32.const {ANSWER}))"))
    };
    vec![
        trap("a cursor of number 77", HANDLES, &next("(i32.const 77)"), "77"),
        trap("a cursor of number 0", HANDLES, &next("(i32.const 0)"), "handle"),
        trap("a cursor of number -1", HANDLES, &next("(i32.const -1)"), "handle"),
        trap("a cursor of number 2^31", HANDLES, &next("(i32.const 0x80000000)"), "handle"),
        trap("the cursor beside its own", HANDLES, &next("(i32.add (i32.const 1) (call $open))"), "handle"),
        trap("a savepoint for a cursor", HANDLES, &next("(call $begin)"), "type"),
        trap("a cursor for a savepoint", HANDLES, &worker().perform(format!("(call $release (call $open) (i32.const {ANSWER}))")), "type"),
        trap(
            "a cursor it dropped",
            HANDLES,
            &worker().main("(global $held (mut i32) (i32.const 0))").perform(format!(
                "(global.set $held (call $open)) (call $drop (global.get $held)) (call $next (global.get $held) (i32.const 1) (i32.const {ANSWER}))"
            )),
            "handle",
        ),
        trap(
            "drops a cursor twice",
            HANDLES,
            &worker()
                .main("(global $held (mut i32) (i32.const 0))")
                .perform("(global.set $held (call $open)) (call $drop (global.get $held)) (call $drop (global.get $held))"),
            "handle",
        ),
        trap("drops a cursor it never had", HANDLES, &worker().perform("(call $drop (i32.const 5))"), "handle"),
        trap("drops a savepoint as a cursor", HANDLES, &worker().perform("(call $drop (call $begin))"), "type"),
        case(
            "drops cursors and opens others, 100 times",
            HANDLES,
            &worker().main("(global $left (mut i32) (i32.const 100))").perform(
                "(loop $on (call $drop (call $open)) (global.set $left (i32.sub (global.get $left) (i32.const 1))) (br_if $on (global.get $left)))",
            ),
            "ok",
            "",
        ),
    ]
}

/// Pointers, lengths and numbers in the args of the host's functions.
fn sent() -> Vec<Case> {
    let query = |sql: &str, params: &str, answer: u32| {
        worker().perform(format!("(call $query {sql} {params} (i32.const {answer}))"))
    };
    let select = format!("(i32.const {SELECT}) (i32.const 8)");
    let none = "(i32.const 0) (i32.const 0)";
    let many =
        |sets: &str| worker().perform(format!("(call $many {select} {sets} (i32.const {ANSWER}))"));
    // 100,000 sets at 1 MiB, each the same 60,000 values at 2 MiB: 6,000,000,000 of them.
    let amplified = format!(
        "(loop $on
            (i32.store (i32.add (i32.const 0x100000) (i32.shl (global.get $n) (i32.const 3))) (i32.const 0x200000))
            (i32.store offset=4 (i32.add (i32.const 0x100000) (i32.shl (global.get $n) (i32.const 3))) (i32.const 60000))
            (global.set $n (i32.add (global.get $n) (i32.const 1)))
            (br_if $on (i32.lt_u (global.get $n) (i32.const 100000))))
        (call $many {select} (i32.const 0x100000) (i32.const 100000) (i32.const {ANSWER}))"
    );
    // 10,000 events at 1 MiB, each with the same action of 1 MiB.
    let events = "(loop $on
            (i32.store offset=4 (i32.add (i32.const 0x100000) (i32.mul (global.get $n) (i32.const 84))) (i32.const 0x100000))
            (global.set $n (i32.add (global.get $n) (i32.const 1)))
            (br_if $on (i32.lt_u (global.get $n) (i32.const 10000))))
        (drop (call $audit (i32.const 0x100000) (i32.const 10000)))";
    let counting = || {
        worker()
            .memory(r#"(memory (export "memory") 64)"#)
            .main("(global $n (mut i32) (i32.const 0))")
    };
    let event = |place: u32, byte: u32| {
        worker().perform(format!(
            "(i32.store8 offset={place} (i32.const {DATA}) (i32.const {byte})) (drop (call $audit (i32.const {DATA}) (i32.const 1)))"
        ))
    };
    vec![
        trap(
            "SQL from beyond its memory",
            CONVENTION,
            &query("(i32.const -2) (i32.const 8)", none, ANSWER),
            "out of bounds",
        ),
        trap(
            "SQL of 4 GiB",
            CONVENTION,
            &query("(i32.const 0) (i32.const -1)", none, ANSWER),
            "out of bounds",
        ),
        trap(
            "SQL that is no UTF-8",
            CONVENTION,
            &query(&format!("(i32.const {DATA}) (i32.const 2)"), none, ANSWER)
                .main(format!(r#"(data (i32.const {DATA}) "\ff\fe")"#)),
            "utf-8",
        ),
        trap(
            "an answer to beyond its memory",
            CONVENTION,
            &query(&select, none, 0xffff_fff0),
            "out of bounds",
        ),
        trap(
            "an answer to an odd address",
            CONVENTION,
            &query(&select, none, ANSWER + 1),
            "aligned",
        ),
        trap(
            "2^31 parameters",
            CONVENTION,
            &query(&select, "(i32.const 0) (i32.const 0x80000000)", ANSWER),
            "out of bounds",
        ),
        trap(
            "parameters at an odd address",
            CONVENTION,
            &query(&select, "(i32.const 1) (i32.const 1)", ANSWER),
            "aligned",
        ),
        trap(
            "a parameter of no class",
            CONVENTION,
            &query(&select, &format!("(i32.const {DATA}) (i32.const 1)"), ANSWER)
                .main(format!(r#"(data (i32.const {DATA}) "\09")"#)),
            "discriminant",
        ),
        trap(
            "2^31 sets of parameters",
            CONVENTION,
            &many("(i32.const 0) (i32.const 0x80000000)"),
            "out of bounds",
        ),
        case(
            "6,000,000,000 parameters out of 2 MB",
            FUEL,
            &counting().perform(amplified),
            "limit",
            "more in one call",
        ),
        case(
            "10,000 audit actions out of the same MiB",
            FUEL,
            &counting().perform(events),
            "limit",
            "more in one call",
        ),
        trap("an audit outcome of number 7", CONVENTION, &event(8, 7), "discriminant"),
        trap("an audit field neither there nor absent", CONVENTION, &event(12, 2), "discriminant"),
        trap(
            "a log level of number 9",
            CONVENTION,
            &worker().perform("(call $log (i32.const 9) (i32.const 0) (i32.const 0))"),
            "discriminant",
        ),
        trap(
            "a log line of 4 GiB",
            CONVENTION,
            &worker().perform("(call $log (i32.const 1) (i32.const 0) (i32.const -1))"),
            "out of bounds",
        ),
    ]
}

/// What `perform` returns, and what it does after.
fn returned() -> Vec<Case> {
    let outcome = |tag: u32, pointer: i32, length: i32| {
        worker().perform(format!(
            "(i32.store8 (i32.const {OUTCOME}) (i32.const {tag})) (i32.store offset=4 (i32.const {OUTCOME}) (i32.const {pointer}))
            (i32.store offset=8 (i32.const {OUTCOME}) (i32.const {length})) (return (i32.const {OUTCOME}))"
        ))
    };
    vec![
        trap("an outcome of number 9", CONVENTION, &outcome(9, 0, 0), "discriminant"),
        trap(
            "an outcome from beyond its memory",
            CONVENTION,
            &worker().perform("(return (i32.const -16))"),
            "out of bounds",
        ),
        trap(
            "an outcome at an odd address",
            CONVENTION,
            &worker().perform("(return (i32.const 51))"),
            "aligned",
        ),
        trap(
            "a result from beyond its memory",
            CONVENTION,
            &outcome(1, 0x7fff_ffff, 8),
            "out of bounds",
        ),
        trap("a reason of 4 GiB", CONVENTION, &outcome(2, 0, -1), "out of bounds"),
        trap(
            "a reason that is no UTF-8",
            CONVENTION,
            &outcome(2, DATA.cast_signed(), 2)
                .main(format!(r#"(data (i32.const {DATA}) "\c3\28")"#)),
            "utf-8",
        ),
        case(
            "a result of 2 MB of spaces",
            "bound of the call",
            &outcome(1, 0x10_0000, 2 << 20).memory(r#"(memory (export "memory") 64)"#),
            "invalid-result",
            "1048576",
        ),
        trap(
            "traps after its outcome",
            INSTANCE,
            &worker().post_return("unreachable"),
            "unreachable",
        ),
        case(
            "goes on for ever after its outcome",
            DEADLINE,
            &worker().post_return("(loop $on (br $on))"),
            "deadline",
            "250 ms",
        ),
        trap(
            "calls the host after its outcome",
            CONVENTION,
            &worker().post_return("(drop (call $now))"),
            "cannot leave",
        ),
    ]
}

/// What it does when the host asks it for room.
fn reallocs() -> Vec<Case> {
    let rows = format!("(call $next (call $open) (i32.const 1) (i32.const {ANSWER}))");
    let for_rows = |body: &str| {
        worker()
            .perform(rows.clone())
            .realloc(format!("(if (i32.gt_u (local.get $align) (i32.const 1)) (then {body}))"))
    };
    vec![
        trap("room beyond its memory", CONVENTION, &worker().realloc("(return (i32.const -16))"), "beyond end of memory"),
        case("room at 0", INSTANCE, &worker().realloc("(return (i32.const 0))"), "ok", ""),
        trap("no room", INSTANCE, &worker().realloc("unreachable"), "unreachable"),
        trap("room at an odd address", CONVENTION, &for_rows("(return (i32.const 1025))"), "not aligned"),
        trap("room beyond its memory, for rows", CONVENTION, &for_rows("(return (i32.const 0x7ffffff8))"), "beyond end of memory"),
        case("the same room for everything", INSTANCE, &for_rows(&format!("(return (i32.const {DATA}))")), "ok", ""),
        case("looks for room without end", DEADLINE, &worker().realloc("(loop $on (br $on))"), "deadline", "250 ms"),
        case(
            "makes room until it is refused",
            MEMORY,
            &worker().realloc("(loop $on (br_if $on (i32.ne (i32.const -1) (memory.grow (i32.const 16))))) unreachable"),
            "memory",
            "8192 KiB",
        ),
    ]
}

/// What it does with its own time and stack.
fn running() -> Vec<Case> {
    let indirect = "(type $call (func)) (table 1 funcref) (elem (i32.const 0) $deeper) (func $deeper (call_indirect (type $call) (i32.const 0)))";
    let later = "(start $start) (func $start (block $describing (br_if $describing (i64.eqz (call $now))) (loop $on (br $on))))";
    let grown = |name: &str, body: &str| {
        worker().main(format!("(table {name} 1 funcref)")).perform(body.to_string())
    };
    vec![
        trap(
            "recursion through a table",
            "wasm stack",
            &worker().main(indirect).perform("(call_indirect (type $call) (i32.const 0))"),
            "stack",
        ),
        case(
            "a start function without end, once it is trusted",
            DEADLINE,
            &worker().main(later),
            "deadline",
            "250 ms",
        ),
        case(
            "table.grow until it is refused",
            MEMORY,
            &grown(
                "$bomb",
                "(loop $on (br_if $on (i32.ne (i32.const -1) (table.grow $bomb (ref.null func) (i32.const 1000)))))",
            ),
            "ok",
            "",
        ),
        trap(
            "table.grow until it is refused, and a trap",
            MEMORY,
            &grown("$bomb", "(drop (table.grow $bomb (ref.null func) (i32.const -1))) unreachable"),
            "unreachable",
        ),
        trap(
            "a call of a function that is not there",
            INSTANCE,
            &grown("$none", "(call_indirect $none (i32.const 0))"),
            "uninitialized",
        ),
        trap(
            "a division by zero",
            INSTANCE,
            &worker().perform("(drop (i32.div_s (i32.const 1) (i32.const 0)))"),
            "divide by zero",
        ),
        trap(
            "reads beyond its memory",
            INSTANCE,
            &worker().perform("(drop (i32.load (i32.const -4)))"),
            "out of bounds",
        ),
    ]
}
