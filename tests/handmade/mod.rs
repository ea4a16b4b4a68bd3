//! Components written by hand, for what no compiler makes: a worker around core code that may break
//! every rule of the calling convention.
//!
//! The core code comes in two modules: `libc` has the memory and `realloc`, so that the host's
//! functions can be lowered before the second one, `main`, imports them as `$query`, `$next` and so
//! on, and defines `describe`, `perform` and what follows them.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod cases;

/// Where `describe` finds its answer, a pointer and a length.
const DESCRIBED: u32 = 8;
/// An outcome `done`: its first byte is 0, and nobody writes here.
const DONE: u32 = 16;
/// Where `perform` may write another outcome.
pub(crate) const OUTCOME: u32 = 48;
/// Where answers of the host go.
pub(crate) const ANSWER: u32 = 96;
/// `SELECT 1`, eight bytes.
pub(crate) const SELECT: u32 = 160;
/// 512 bytes for the data of a case.
pub(crate) const DATA: u32 = 256;
const MANIFEST: u32 = 1024;

/// A component in parts, each with an honest default.
pub(crate) struct Handmade {
    manifest: Vec<u8>,
    /// Imports beside those of `verger:worker`, or other forms of components' fields.
    fields: String,
    /// The import of the clock, the smallest of the interfaces.
    clock: &'static str,
    memory: String,
    realloc: String,
    main: String,
    describe: String,
    perform: String,
    post_return: String,
    exports: String,
}

impl Handmade {
    /// A worker that is done at once.
    pub(crate) fn new(name: &str) -> Self {
        Self::described(format!(r#"{{"name":"{name}","version":"1"}}"#))
    }

    /// With this for a manifest.
    pub(crate) fn described(manifest: impl Into<Vec<u8>>) -> Self {
        Self {
            manifest: manifest.into(),
            fields: String::new(),
            clock: r#"(import "verger:worker/clock@0.1.0" (instance $clock (export "now" (func (result s64)))))"#,
            memory: String::new(),
            realloc: String::new(),
            main: String::new(),
            describe: format!("i32.const {DESCRIBED}"),
            perform: String::new(),
            post_return: String::new(),
            exports: EXPORTS.to_string(),
        }
    }

    /// More fields of the component, before the rest.
    pub(crate) fn fields(self, fields: impl Into<String>) -> Self {
        Self { fields: fields.into(), ..self }
    }

    /// Another import in the place of the clock's; it has to be an instance `$clock` with a
    /// function `now`.
    pub(crate) fn clock(self, import: &'static str) -> Self {
        Self { clock: import, ..self }
    }

    /// Its memory: `(memory (export "memory") 2)` if nothing is said, or as many pages as the
    /// manifest takes.
    pub(crate) fn memory(self, memory: impl Into<String>) -> Self {
        Self { memory: memory.into(), ..self }
    }

    /// The body of `realloc`, from `$old`, `$had`, `$align` and `$wants` to a pointer. What it
    /// leaves goes on to the honest one.
    pub(crate) fn realloc(self, body: impl Into<String>) -> Self {
        Self { realloc: body.into(), ..self }
    }

    /// More fields of the module `main`: data, tables, a start function.
    pub(crate) fn main(self, fields: impl Into<String>) -> Self {
        Self { main: fields.into(), ..self }
    }

    /// The body of `describe`: a pointer to a pointer and a length.
    pub(crate) fn describe(self, body: impl Into<String>) -> Self {
        Self { describe: body.into(), ..self }
    }

    /// What `perform` does before it is done. A body that ends with `return` says otherwise.
    pub(crate) fn perform(self, body: impl Into<String>) -> Self {
        Self { perform: body.into(), ..self }
    }

    /// What is done when the host has read the outcome of `perform`.
    pub(crate) fn post_return(self, body: impl Into<String>) -> Self {
        Self { post_return: body.into(), ..self }
    }

    /// What the component exports, in the place of `describe` and `perform`.
    pub(crate) fn exports(self, exports: impl Into<String>) -> Self {
        Self { exports: exports.into(), ..self }
    }

    /// The component.
    #[track_caller]
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let text = self.text();
        wat::parse_str(&text).unwrap_or_else(|error| {
            panic!("{error}\n{}", if text.len() < 20_000 { &text } else { "" })
        })
    }

    fn text(&self) -> String {
        let Self { fields, clock, realloc, main, describe, perform, post_return, exports, .. } =
            self;
        let heap = (MANIFEST as usize + self.manifest.len()).next_multiple_of(16);
        let memory = match self.memory.as_str() {
            "" => format!(r#"(memory (export "memory") {})"#, 2 + heap / 65536),
            memory => memory.to_string(),
        };
        let pair: String = [MANIFEST, self.manifest.len() as u32]
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .map(escaped)
            .collect();
        let manifest: String = self.manifest.iter().copied().map(escaped).collect();
        format!(
            r#"(component
    {fields}
    {INTERFACES}
    {clock}
    (core module $libc
        {memory}
        (data (i32.const {DESCRIBED}) "{pair}")
        (data (i32.const {SELECT}) "SELECT 1")
        (data (i32.const {MANIFEST}) "{manifest}")
        (global $heap (mut i32) (i32.const {heap}))
        (func (export "realloc") (param $old i32) (param $had i32) (param $align i32) (param $wants i32) (result i32)
            {realloc}
            (global.set $heap (i32.and
                (i32.add (global.get $heap) (i32.sub (local.get $align) (i32.const 1)))
                (i32.sub (i32.const 0) (local.get $align))))
            (global.get $heap)
            (global.set $heap (i32.add (global.get $heap) (local.get $wants)))
            (block $fits
                (br_if $fits (i32.le_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536))))
                (br_if $fits (i32.ne (i32.const -1) (memory.grow (i32.add (i32.const 1) (i32.div_u (local.get $wants) (i32.const 65536))))))
                unreachable)))
    (core instance $libc (instantiate $libc))
    {LOWERED}
    (core module $main
        {IMPORTED}
        (func $open (result i32)
            (call $query (i32.const {SELECT}) (i32.const 8) (i32.const 0) (i32.const 0) (i32.const {ANSWER}))
            (i32.load (i32.const {cursor})))
        (func $begin (result i32)
            (call $savepoint (i32.const {ANSWER}))
            (i32.load (i32.const {cursor})))
        {main}
        (func (export "describe") (result i32) {describe})
        (func (export "perform") (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)
            {perform}
            i32.const {DONE})
        (func (export "post-return") (param i32) {post_return}))
    (core instance $main (instantiate $main (with "libc" (instance $libc)) (with "host" (instance {EXPORTED}))))
    {exports})"#,
            cursor = ANSWER + 4,
        )
    }
}

/// A length as WebAssembly's binaries have it: LEB128.
pub(crate) fn push_length(bytes: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
}

/// A byte in a text of WAT.
fn escaped(byte: u8) -> String {
    format!("\\{byte:02x}")
}

/// The honest exports. Cases change them by the word.
pub(crate) const EXPORTS: &str = r#"
    (func (export "describe") (result string) (canon lift (core func $main "describe") (memory $libc "memory")))
    (func (export "perform") (param "scope" (option $scope)) (param "args" string) (result $outcome)
        (canon lift (core func $main "perform") (memory $libc "memory") (realloc (func $libc "realloc")) (post-return (func $main "post-return"))))"#;

const INTERFACES: &str = r#"
    (import "verger:worker/types@0.1.0" (instance $types
        (type $error (record (field "code" string) (field "message" string)))
        (export "error" (type $error' (eq $error)))
        (type $value (variant (case "null") (case "integer" s64) (case "real" f64) (case "text" string) (case "blob" (list u8))))
        (export "value" (type (eq $value)))
        (type $scope (record (field "organization-id" (option string)) (field "actor-id" (option string)) (field "impersonating-from" (option string))))
        (export "scope" (type (eq $scope)))
        (type $outcome (variant (case "done") (case "done-with" string) (case "failed" $error') (case "discard" $error') (case "snooze" u32) (case "cancel" string)))
        (export "outcome" (type (eq $outcome)))))
    (alias export $types "error" (type $error))
    (alias export $types "value" (type $value))
    (alias export $types "scope" (type $scope))
    (alias export $types "outcome" (type $outcome))
    (import "verger:worker/store@0.1.0" (instance $store
        (alias outer 1 $error (type $error))
        (alias outer 1 $value (type $value))
        (export "cursor" (type $cursor (sub resource)))
        (export "savepoint" (type $savepoint (sub resource)))
        (type $changed (result u32 (error $error)))
        (export "query" (func (param "sql" string) (param "params" (list $value)) (result (result (own $cursor) (error $error)))))
        (export "execute-many" (func (param "sql" string) (param "params" (list (list $value))) (result (result (list $changed) (error $error)))))
        (export "[method]cursor.next" (func (param "self" (borrow $cursor)) (param "max-rows" u32) (result (result (list (list $value)) (error $error)))))
        (export "begin-savepoint" (func (result (result (own $savepoint) (error $error)))))
        (export "[method]savepoint.release" (func (param "self" (borrow $savepoint)) (result (result (error $error)))))))
    (alias export $store "cursor" (type $cursor))
    (alias export $store "savepoint" (type $savepoint))
    (import "verger:worker/audit@0.1.0" (instance $audit
        (type $event-outcome (enum "success" "failure" "error"))
        (export "event-outcome" (type $event-outcome' (eq $event-outcome)))
        (type $event (record (field "action" string) (field "outcome" $event-outcome') (field "organization-id" (option string))
            (field "subject-type" (option string)) (field "subject-id" (option string)) (field "before" (option string))
            (field "after" (option string)) (field "metadata" (option string))))
        (export "event" (type $event' (eq $event)))
        (export "append-safe" (func (param "events" (list $event')) (result u32)))))
    (import "verger:worker/log@0.1.0" (instance $log
        (type $level (enum "trace" "debug" "info" "warn" "error"))
        (export "level" (type $level' (eq $level)))
        (export "write" (func (param "level" $level') (param "message" string)))))"#;

/// The host's functions as core functions. Those that answer with more than a number write it where
/// the last parameter says.
const LOWERED: &str = r#"
    (core func $query (canon lower (func $store "query") (memory $libc "memory") (realloc (func $libc "realloc"))))
    (core func $many (canon lower (func $store "execute-many") (memory $libc "memory") (realloc (func $libc "realloc"))))
    (core func $next (canon lower (func $store "[method]cursor.next") (memory $libc "memory") (realloc (func $libc "realloc"))))
    (core func $drop (canon resource.drop $cursor))
    (core func $savepoint (canon lower (func $store "begin-savepoint") (memory $libc "memory") (realloc (func $libc "realloc"))))
    (core func $release (canon lower (func $store "[method]savepoint.release") (memory $libc "memory") (realloc (func $libc "realloc"))))
    (core func $audit (canon lower (func $audit "append-safe") (memory $libc "memory")))
    (core func $log (canon lower (func $log "write") (memory $libc "memory")))
    (core func $now (canon lower (func $clock "now")))"#;

const EXPORTED: &str = r#"(export "query" (func $query)) (export "many" (func $many)) (export "next" (func $next)) (export "drop" (func $drop))
        (export "savepoint" (func $savepoint)) (export "release" (func $release)) (export "audit" (func $audit)) (export "log" (func $log))
        (export "now" (func $now))"#;

const IMPORTED: &str = r#"
        (import "libc" "memory" (memory 0))
        (import "host" "query" (func $query (param i32 i32 i32 i32 i32)))
        (import "host" "many" (func $many (param i32 i32 i32 i32 i32)))
        (import "host" "next" (func $next (param i32 i32 i32)))
        (import "host" "drop" (func $drop (param i32)))
        (import "host" "savepoint" (func $savepoint (param i32)))
        (import "host" "release" (func $release (param i32 i32)))
        (import "host" "audit" (func $audit (param i32 i32) (result i32)))
        (import "host" "log" (func $log (param i32 i32 i32)))
        (import "host" "now" (func $now (result i64)))"#;
