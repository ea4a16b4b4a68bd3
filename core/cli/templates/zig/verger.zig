//! The words of verger.h for Zig: a call that fails is an error, and `failure()` says why; a savepoint is
//! undone by `errdefer`. Yours to read and to change.
const std = @import("std");

/// What `perform` returns where it does not end: the last call of the host failed, and the job is tried
/// again; or its args cannot be right, and it is not.
pub const Error = error{ Refused, Args };

pub const Text = extern struct {
    ptr: ?[*]const u8 = null,
    len: usize = 0,

    pub fn slice(self: Text) []const u8 {
        return if (self.ptr) |ptr| ptr[0..self.len] else "";
    }
};
pub const Failure = extern struct { code: Text, message: Text };
pub const Option = extern struct { is_some: u8 = 0, text: Text = .{} };
pub const Scope = extern struct { organization_id: Option, actor_id: Option, impersonating_from: Option };

/// A value of SQLite's five storage classes.
pub const Value = extern struct {
    pub const Tag = enum(u8) { null, integer, real, text, blob };
    tag: Tag = .null,
    as: extern union { integer: i64, real: f64, text: Text } = .{ .integer = 0 },
};
pub const Row = extern struct {
    ptr: [*]const Value,
    len: usize,

    pub fn cells(self: Row) []const Value {
        return self.ptr[0..self.len];
    }
};
pub const Table = extern struct {
    columns: extern struct { ptr: ?[*]const Text, len: usize },
    rows: extern struct { ptr: ?[*]const Row, len: usize },

    pub fn all(self: Table) []const Row {
        return if (self.rows.ptr) |ptr| ptr[0..self.rows.len] else &.{};
    }
};
/// Leave out what is not known.
pub const Event = extern struct {
    action: Text,
    outcome: enum(u8) { success, failure, @"error" } = .success,
    organization_id: Option = .{},
    subject_type: Option = .{},
    subject_id: Option = .{},
    before: Option = .{},
    after: Option = .{},
    metadata: Option = .{},
};
pub const Outcome = extern struct {
    tag: u8,
    as: extern union { text: Text, failure: Failure, seconds: u32 },
};
pub const Level = enum(c_int) { trace, debug, info, warn, @"error" };

extern var verger_error: Failure;
extern fn verger_concerns_one_row() bool;
extern fn verger_format(format: [*:0]const u8, ...) Text;
extern fn verger_cell_text(value: Value) Option;
extern fn verger_memory() ?*anyopaque;
extern fn verger_release(mark: ?*anyopaque) void;
extern fn verger_all(sql: [*:0]const u8, params: [*]const Value, count: usize, table: *Table) bool;
extern fn verger_one(sql: [*:0]const u8, params: [*]const Value, count: usize, cell: *Value) bool;
extern fn verger_execute(sql: [*:0]const u8, params: [*]const Value, count: usize, changed: *u32) bool;
extern fn verger_begin(savepoint: *i32) bool;
extern fn verger_keep(savepoint: i32) bool;
extern fn verger_undo(savepoint: i32) bool;
extern fn verger_checkpoint() bool;
extern fn verger_checkpoint_due() bool;
extern fn verger_audit(event: *const Event) bool;
extern fn verger_publish(topic: [*:0]const u8, json: Text) bool;
extern fn verger_call(capability: [*:0]const u8, json: Text, reply: *Text) bool;
extern fn verger_enqueue(worker: [*:0]const u8, args: Text, options: Text, id: *u64) bool;
extern fn verger_get_state(key: [*:0]const u8, value: *Value) bool;
extern fn verger_set_state(key: [*:0]const u8, value: Value) bool;
extern fn verger_progress(done: u32, total: u32) void;
extern fn verger_is_cancelled() bool;
extern fn verger_attempt() u32;
extern fn verger_now() i64;
extern fn verger_log(level: c_int, line: Text) void;
extern fn verger_arg(args: Text, path: [*:0]const u8, tag: c_int, value: *Value) bool;
extern fn verger_done() Outcome;
extern fn verger_done_with(json: Text) Outcome;
extern fn verger_failed() Outcome;
extern fn verger_discarded() Outcome;
extern fn verger_fail(code: [*:0]const u8, message: Text) Outcome;
extern fn verger_discard(code: [*:0]const u8, message: Text) Outcome;
extern fn verger_snooze(seconds: u32) Outcome;
extern fn verger_cancel(reason: Text) Outcome;

pub const concernsOneRow = verger_concerns_one_row;
pub const checkpointDue = verger_checkpoint_due;
pub const progress = verger_progress;
pub const isCancelled = verger_is_cancelled;
pub const attempt = verger_attempt;
/// Milliseconds since 1970, by the host's clock.
pub const now = verger_now;
/// A cell as a text for the audit log: none for NULL.
pub const cellText = verger_cell_text;
/// What the host gives, and what `format` makes, lives until it is released to a mark taken before.
pub const memory = verger_memory;
pub const release = verger_release;
pub const done = verger_done;
pub const snooze = verger_snooze;

/// Why the last call failed: a code of wit/worker.wit, and a sentence.
pub fn failure() Failure {
    return verger_error;
}

pub fn text(words: []const u8) Text {
    return .{ .ptr = words.ptr, .len = words.len };
}

/// As std.fmt, of at most 4 KiB; what is longer is cut.
pub fn format(comptime words: []const u8, args: anytype) Text {
    var buffer: [4096]u8 = undefined;
    const made = std.fmt.bufPrint(&buffer, words, args) catch &buffer;
    return verger_format("%.*s", @as(c_int, @intCast(made.len)), made.ptr);
}

pub fn some(words: Text) Option {
    return .{ .is_some = 1, .text = words };
}

pub fn integer(number: i64) Value {
    return .{ .tag = .integer, .as = .{ .integer = number } };
}

pub fn textValue(words: Text) Value {
    return .{ .tag = .text, .as = .{ .text = words } };
}

/// All rows of a query, as far as one chunk (16 MiB) goes.
pub fn all(sql: [*:0]const u8, params: []const Value) Error!Table {
    var table: Table = undefined;
    return if (verger_all(sql, params.ptr, params.len, &table)) table else error.Refused;
}

/// The first cell of the first row; NULL where there is none.
pub fn one(sql: [*:0]const u8, params: []const Value) Error!Value {
    var cell: Value = undefined;
    return if (verger_one(sql, params.ptr, params.len, &cell)) cell else error.Refused;
}

/// Runs one statement; the number of rows it changed.
pub fn execute(sql: [*:0]const u8, params: []const Value) Error!u32 {
    var changed: u32 = 0;
    return if (verger_execute(sql, params.ptr, params.len, &changed)) changed else error.Refused;
}

/// A point to go back to: `errdefer savepoint.undo()`, and `keep` at the end.
pub const Savepoint = struct {
    handle: i32,
    is_open: bool = true,

    pub fn begin() Error!Savepoint {
        var handle: i32 = 0;
        return if (verger_begin(&handle)) .{ .handle = handle } else error.Refused;
    }

    pub fn keep(self: *Savepoint) Error!void {
        self.is_open = false;
        if (!verger_keep(self.handle)) return error.Refused;
    }

    pub fn undo(self: *Savepoint) void {
        if (self.is_open) _ = verger_undo(self.handle);
        self.is_open = false;
    }
};

pub fn checkpoint() Error!void {
    if (!verger_checkpoint()) return error.Refused;
}

pub fn audit(event: Event) Error!void {
    if (!verger_audit(&event)) return error.Refused;
}

pub fn publish(topic: [*:0]const u8, json: Text) Error!void {
    if (!verger_publish(topic, json)) return error.Refused;
}

pub fn call(capability: [*:0]const u8, json: Text) Error!Text {
    var reply: Text = .{};
    return if (verger_call(capability, json, &reply)) reply else error.Refused;
}

/// `options` may be empty; see queue.new-job. The id of the job.
pub fn enqueue(worker_name: [*:0]const u8, args: Text, options: Text) Error!u64 {
    var id: u64 = 0;
    return if (verger_enqueue(worker_name, args, options, &id)) id else error.Refused;
}

pub fn getState(key: [*:0]const u8) Error!Value {
    var value: Value = .{};
    return if (verger_get_state(key, &value)) value else error.Refused;
}

pub fn setState(key: [*:0]const u8, value: Value) Error!void {
    if (!verger_set_state(key, value)) return error.Refused;
}

pub fn log(level: Level, line: Text) void {
    verger_log(@intFromEnum(level), line);
}

/// An arg of this type, read by SQLite: `arg(args, "$.days", .integer)`.
pub fn arg(args: Text, path: [*:0]const u8, tag: Value.Tag) Error!Value {
    var value: Value = .{};
    return if (verger_arg(args, path, @intFromEnum(tag), &value)) value else error.Args;
}

pub fn integerArg(args: Text, path: [*:0]const u8) Error!i64 {
    return (try arg(args, path, .integer)).as.integer;
}

pub fn doneWith(json: Text) Outcome {
    return verger_done_with(json);
}

/// For a reason of the worker's own: the job is tried again; or it is not.
pub fn fail(code: [*:0]const u8, message: []const u8) Outcome {
    return verger_fail(code, text(message));
}

pub fn discard(code: [*:0]const u8, message: []const u8) Outcome {
    return verger_discard(code, text(message));
}

pub fn cancel(reason: []const u8) Outcome {
    return verger_cancel(text(reason));
}

/// Makes the worker of these two functions: `comptime { verger.worker(manifest, perform); }`.
pub fn worker(comptime manifest: []const u8, comptime perform: fn (?*const Scope, Text) Error!Outcome) void {
    const Exports = struct {
        fn describe() callconv(.c) Text {
            return text(manifest);
        }
        fn performed(scope: ?*const Scope, args: Text) callconv(.c) Outcome {
            return perform(scope, args) catch |why| switch (why) {
                error.Refused => verger_failed(),
                error.Args => verger_discarded(),
            };
        }
    };
    @export(&Exports.describe, .{ .name = "worker_describe" });
    @export(&Exports.performed, .{ .name = "worker_perform" });
}

/// A panic's words go to the job's log, and from there into its error.
pub const panic = std.debug.FullPanic(struct {
    fn told(words: []const u8, _: ?usize) noreturn {
        log(.@"error", text(words));
        @trap();
    }
}.told);
