/* The words of Verger's SDK for workers in C, C++ and Zig: the interface of wit/worker.wit as C functions,
 * by the canonical ABI. Yours to read and to change; `verger plugin pack` checks it against the interface.
 *
 * Define VERGER_MAIN in one source file before this header. What the host gives (rows, texts) lives until
 * verger_release of a mark taken before. Every call that can fail returns false, and verger_error says why. */
#ifndef VERGER_H
#define VERGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct { const char *ptr; size_t len; } verger_text;
typedef struct { verger_text code, message; } verger_failure;

enum { VERGER_NULL, VERGER_INTEGER, VERGER_REAL, VERGER_TEXT, VERGER_BLOB };
typedef struct {
    uint8_t tag;
    union { int64_t integer; double real; verger_text text; } as;
} verger_value;

typedef struct { const verger_value *ptr; size_t len; } verger_row;
typedef struct {
    struct { const verger_text *ptr; size_t len; } columns;
    struct { const verger_row *ptr; size_t len; } rows;
} verger_table;

typedef struct { uint8_t is_some; verger_text text; } verger_option;
enum { VERGER_SUCCESS, VERGER_FAILURE, VERGER_ERROR };
/* Leave out what is not known: verger_event event = { .action = verger_str("order.closed") }; */
typedef struct {
    verger_text action;
    uint8_t outcome;
    verger_option organization_id, subject_type, subject_id, before, after, metadata;
} verger_event;

typedef struct { verger_option organization_id, actor_id, impersonating_from; } verger_scope;

enum { VERGER_DONE, VERGER_DONE_WITH, VERGER_FAILED, VERGER_DISCARD, VERGER_SNOOZE, VERGER_CANCEL };
typedef struct {
    uint8_t tag;
    union { verger_text text; verger_failure failure; uint32_t seconds; } as;
} verger_outcome;

/* The two that a worker writes. `scope` is NULL for a job that has none. */
verger_text worker_describe(void);
verger_outcome worker_perform(const verger_scope *scope, verger_text args);

/* Why the last call failed: a code of wit/worker.wit, and a sentence. */
extern verger_failure verger_error;
/* Whether one row's own content was refused: a sweep counts it and goes on. */
bool verger_concerns_one_row(void);

verger_text verger_str(const char *text);
/* As printf, in memory that lives until verger_release. */
verger_text verger_format(const char *format, ...) __attribute__((format(printf, 1, 2)));
bool verger_equal(verger_text text, const char *other);
verger_value verger_integer(int64_t number);
verger_value verger_text_value(verger_text text);
verger_value verger_null(void);
verger_option verger_some(verger_text text);
/* A cell as a text for the audit log: none for NULL. An integer is written in decimal. */
verger_option verger_cell_text(verger_value value);

typedef void *verger_mark;
verger_mark verger_memory(void);
/* Frees what was given or formatted since. */
void verger_release(verger_mark mark);

/* All rows of a query, as far as one chunk (16 MiB) goes. */
bool verger_all(const char *sql, const verger_value *params, size_t count, verger_table *table);
/* The first cell of the first row; NULL when there is none. */
bool verger_one(const char *sql, const verger_value *params, size_t count, verger_value *cell);
/* Runs one statement; the number of rows it changed, where `changed` is not NULL. */
bool verger_execute(const char *sql, const verger_value *params, size_t count, uint32_t *changed);
/* A savepoint: end it by verger_keep or verger_undo. */
typedef int32_t verger_savepoint;
bool verger_begin(verger_savepoint *savepoint);
bool verger_keep(verger_savepoint savepoint);
bool verger_undo(verger_savepoint savepoint);
bool verger_checkpoint(void);
bool verger_checkpoint_due(void);
bool verger_audit(const verger_event *event);
bool verger_publish(const char *topic, verger_text json);
bool verger_call(const char *capability, verger_text json, verger_text *reply);
/* `options` may be empty; see queue.new-job. `id` may be NULL. */
bool verger_enqueue(const char *worker, verger_text args, verger_text options, uint64_t *id);
bool verger_get_state(const char *key, verger_value *value);
bool verger_set_state(const char *key, verger_value value);
void verger_progress(uint32_t done, uint32_t total);
bool verger_is_cancelled(void);
uint32_t verger_attempt(void);
int64_t verger_now(void);
enum { VERGER_TRACE, VERGER_DEBUG, VERGER_INFO, VERGER_WARN, VERGER_ERROR_LINE };
void verger_log(int level, verger_text line);

/* An arg, read by SQLite: verger_arg(args, "$.days", &value). Without it, or where it has another type than
 * `tag`, false, and verger_error has the code `args`: end with verger_discarded(). */
bool verger_arg(verger_text args, const char *path, int tag, verger_value *value);

verger_outcome verger_done(void);
verger_outcome verger_done_with(verger_text json);
/* The last error, handed on with its code: the job is tried again; or it is not. */
verger_outcome verger_failed(void);
verger_outcome verger_discarded(void);
/* The same, for a reason of the worker's own. */
verger_outcome verger_fail(const char *code, verger_text message);
verger_outcome verger_discard(const char *code, verger_text message);
verger_outcome verger_snooze(uint32_t seconds);
verger_outcome verger_cancel(verger_text reason);

#ifdef __cplusplus
}
#endif

#ifdef VERGER_MAIN
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VERGER_IMPORT(interface, name) \
    __attribute__((import_module("verger:worker/" interface "@0.1.0"), import_name(name)))
VERGER_IMPORT("store", "query-all") void verger_import_all(const char *, size_t, const verger_value *, size_t, void *);
VERGER_IMPORT("store", "execute") void verger_import_execute(const char *, size_t, const verger_value *, size_t, void *);
VERGER_IMPORT("store", "begin-savepoint") void verger_import_begin(void *);
VERGER_IMPORT("store", "[method]savepoint.release") void verger_import_release(int32_t, void *);
VERGER_IMPORT("store", "[method]savepoint.rollback") void verger_import_rollback(int32_t, void *);
VERGER_IMPORT("store", "[resource-drop]savepoint") void verger_import_drop(int32_t);
VERGER_IMPORT("store", "checkpoint") void verger_import_checkpoint(void *);
VERGER_IMPORT("store", "checkpoint-due") int32_t verger_import_checkpoint_due(void);
VERGER_IMPORT("audit", "append") void verger_import_append(const verger_event *, size_t, void *);
VERGER_IMPORT("clock", "now") int64_t verger_import_now(void);
VERGER_IMPORT("events", "publish") void verger_import_publish(const char *, size_t, const char *, size_t, void *);
VERGER_IMPORT("job", "progress") void verger_import_progress(int32_t, int32_t);
VERGER_IMPORT("job", "is-cancelled") int32_t verger_import_is_cancelled(void);
VERGER_IMPORT("job", "attempt") int32_t verger_import_attempt(void);
VERGER_IMPORT("log", "write") void verger_import_write(int32_t, const char *, size_t);
VERGER_IMPORT("host", "call") void verger_import_call(const char *, size_t, const char *, size_t, void *);
VERGER_IMPORT("queue", "enqueue") void verger_import_enqueue(const void *, size_t, void *);
VERGER_IMPORT("state", "get") void verger_import_get(const char *, size_t, void *);
VERGER_IMPORT("state", "set") void verger_import_set(const char *, size_t, int32_t, int64_t, int32_t, void *);

/* Memory: a list of blocks, the newest first. */
typedef struct verger_block { struct verger_block *before; uint64_t align; } verger_block;
static verger_block *verger_blocks;

static void *verger_allocate(size_t size) {
    verger_block *block = (verger_block *)malloc(sizeof(verger_block) + size);
    /* NULL at the memory limit, and writing there would be no trap. */
    if (block == NULL) __builtin_trap();
    block->before = verger_blocks;
    verger_blocks = block;
    return block + 1;
}

verger_mark verger_memory(void) { return verger_blocks; }

void verger_release(verger_mark mark) {
    while (verger_blocks != (verger_block *)mark) {
        verger_block *block = verger_blocks;
        verger_blocks = block->before;
        free(block);
    }
}

__attribute__((export_name("cabi_realloc"))) void *verger_realloc(void *old, size_t had, size_t align, size_t wants) {
    (void)align;
    void *fresh = verger_allocate(wants);
    if (had > 0) memcpy(fresh, old, had < wants ? had : wants);
    return fresh;
}

/* What a call answered: whether it worked, and what, or why not. */
typedef struct {
    uint8_t is_error;
    union {
        verger_failure failure;
        verger_table table;
        verger_text text;
        uint32_t number;
        int32_t handle;
    } as;
} verger_answer;
typedef struct { uint8_t is_error; union { verger_failure failure; verger_value value; } as; } verger_state_answer;

verger_failure verger_error;

static bool verger_worked(const verger_answer *answer) {
    if (answer->is_error) verger_error = answer->as.failure;
    return !answer->is_error;
}

bool verger_equal(verger_text text, const char *other) {
    return text.len == strlen(other) && memcmp(text.ptr, other, text.len) == 0;
}

bool verger_concerns_one_row(void) {
    return verger_equal(verger_error.code, "constraint") || verger_equal(verger_error.code, "type") ||
        verger_equal(verger_error.code, "row");
}

verger_text verger_str(const char *text) { verger_text made = { text, strlen(text) }; return made; }

verger_text verger_format(const char *format, ...) {
    va_list parts;
    va_start(parts, format);
    int length = vsnprintf(NULL, 0, format, parts);
    va_end(parts);
    char *made = (char *)verger_allocate((size_t)length + 1);
    va_start(parts, format);
    vsnprintf(made, (size_t)length + 1, format, parts);
    va_end(parts);
    verger_text text = { made, (size_t)length };
    return text;
}

verger_value verger_null(void) { verger_value value; memset(&value, 0, sizeof value); return value; }
verger_value verger_integer(int64_t number) {
    verger_value value = verger_null();
    value.tag = VERGER_INTEGER;
    value.as.integer = number;
    return value;
}
verger_value verger_text_value(verger_text text) {
    verger_value value = verger_null();
    value.tag = VERGER_TEXT;
    value.as.text = text;
    return value;
}
verger_option verger_some(verger_text text) { verger_option option = { 1, text }; return option; }
verger_option verger_cell_text(verger_value value) {
    verger_option none = { 0, { NULL, 0 } };
    switch (value.tag) {
    case VERGER_INTEGER: return verger_some(verger_format("%lld", (long long)value.as.integer));
    case VERGER_TEXT: return verger_some(value.as.text);
    default: return none;
    }
}

bool verger_all(const char *sql, const verger_value *params, size_t count, verger_table *table) {
    verger_answer answer;
    verger_import_all(sql, strlen(sql), params, count, &answer);
    if (verger_worked(&answer)) *table = answer.as.table;
    return !answer.is_error;
}

bool verger_one(const char *sql, const verger_value *params, size_t count, verger_value *cell) {
    verger_table table;
    if (!verger_all(sql, params, count, &table)) return false;
    *cell = table.rows.len > 0 && table.rows.ptr[0].len > 0 ? table.rows.ptr[0].ptr[0] : verger_null();
    return true;
}

bool verger_execute(const char *sql, const verger_value *params, size_t count, uint32_t *changed) {
    verger_answer answer;
    verger_import_execute(sql, strlen(sql), params, count, &answer);
    if (verger_worked(&answer) && changed != NULL) *changed = answer.as.number;
    return !answer.is_error;
}

bool verger_begin(verger_savepoint *savepoint) {
    verger_answer answer;
    verger_import_begin(&answer);
    if (verger_worked(&answer)) *savepoint = answer.as.handle;
    return !answer.is_error;
}

bool verger_keep(verger_savepoint savepoint) {
    verger_answer answer;
    verger_import_release(savepoint, &answer);
    verger_import_drop(savepoint);
    return verger_worked(&answer);
}

bool verger_undo(verger_savepoint savepoint) {
    verger_answer answer;
    verger_failure why = verger_error;
    verger_import_rollback(savepoint, &answer);
    verger_import_drop(savepoint);
    /* Why it is undone is what matters. */
    if (answer.is_error && why.code.len == 0) why = answer.as.failure;
    verger_error = why;
    return !answer.is_error;
}

bool verger_checkpoint(void) {
    verger_answer answer;
    verger_import_checkpoint(&answer);
    return verger_worked(&answer);
}

bool verger_checkpoint_due(void) { return verger_import_checkpoint_due() != 0; }

bool verger_audit(const verger_event *event) {
    verger_answer answer;
    verger_import_append(event, 1, &answer);
    return verger_worked(&answer);
}

bool verger_publish(const char *topic, verger_text json) {
    verger_answer answer;
    verger_import_publish(topic, strlen(topic), json.ptr, json.len, &answer);
    return verger_worked(&answer);
}

bool verger_call(const char *capability, verger_text json, verger_text *reply) {
    verger_answer answer;
    verger_import_call(capability, strlen(capability), json.ptr, json.len, &answer);
    if (verger_worked(&answer)) *reply = answer.as.text;
    return !answer.is_error;
}

bool verger_enqueue(const char *worker, verger_text args, verger_text options, uint64_t *id) {
    verger_answer answer;
    struct { verger_text worker, args, options; } job = { verger_str(worker), args, options };
    verger_import_enqueue(&job, 1, &answer);
    if (verger_worked(&answer) && id != NULL) memcpy(id, answer.as.text.ptr, sizeof *id);
    return !answer.is_error;
}

bool verger_get_state(const char *key, verger_value *value) {
    verger_state_answer answer;
    verger_import_get(key, strlen(key), &answer);
    if (answer.is_error) verger_error = answer.as.failure;
    else *value = answer.as.value;
    return !answer.is_error;
}

bool verger_set_state(const char *key, verger_value value) {
    verger_answer answer;
    bool is_text = value.tag == VERGER_TEXT || value.tag == VERGER_BLOB;
    int64_t first = is_text ? (int64_t)(uintptr_t)value.as.text.ptr : value.as.integer;
    verger_import_set(key, strlen(key), value.tag, first, is_text ? (int32_t)value.as.text.len : 0, &answer);
    return verger_worked(&answer);
}

void verger_progress(uint32_t done, uint32_t total) { verger_import_progress((int32_t)done, (int32_t)total); }
bool verger_is_cancelled(void) { return verger_import_is_cancelled() != 0; }
uint32_t verger_attempt(void) { return (uint32_t)verger_import_attempt(); }
int64_t verger_now(void) { return verger_import_now(); }
void verger_log(int level, verger_text line) { verger_import_write(level, line.ptr, line.len); }

bool verger_arg(verger_text args, const char *path, int tag, verger_value *value) {
    verger_value params[2] = { verger_text_value(args), verger_text_value(verger_str(path)) };
    if (!verger_one("SELECT ?1 ->> ?2", params, 2, value)) return false;
    if (value->tag == tag) return true;
    verger_error.code = verger_str("args");
    verger_error.message = value->tag == VERGER_NULL
        ? verger_format("the arg `%s` is missing", path + (path[0] == '$' ? 2 : 0))
        : verger_format("the arg `%s` has another type than it must have", path + (path[0] == '$' ? 2 : 0));
    return false;
}

static verger_outcome verger_ended(uint8_t tag) {
    verger_outcome outcome;
    memset(&outcome, 0, sizeof outcome);
    outcome.tag = tag;
    return outcome;
}

verger_outcome verger_done(void) { return verger_ended(VERGER_DONE); }
verger_outcome verger_done_with(verger_text json) {
    verger_outcome outcome = verger_ended(VERGER_DONE_WITH);
    outcome.as.text = json;
    return outcome;
}
verger_outcome verger_failed(void) {
    verger_outcome outcome = verger_ended(VERGER_FAILED);
    outcome.as.failure = verger_error;
    return outcome;
}
verger_outcome verger_discarded(void) {
    verger_outcome outcome = verger_ended(VERGER_DISCARD);
    outcome.as.failure = verger_error;
    return outcome;
}
verger_outcome verger_fail(const char *code, verger_text message) {
    verger_error.code = verger_str(code);
    verger_error.message = message;
    return verger_failed();
}
verger_outcome verger_discard(const char *code, verger_text message) {
    verger_error.code = verger_str(code);
    verger_error.message = message;
    return verger_discarded();
}
verger_outcome verger_snooze(uint32_t seconds) {
    verger_outcome outcome = verger_ended(VERGER_SNOOZE);
    outcome.as.seconds = seconds;
    return outcome;
}
verger_outcome verger_cancel(verger_text reason) {
    verger_outcome outcome = verger_ended(VERGER_CANCEL);
    outcome.as.text = reason;
    return outcome;
}

/* The exports. What they return is read before the instance is thrown away. */
__attribute__((export_name("describe"))) void *verger_export_describe(void) {
    static verger_text manifest;
    manifest = worker_describe();
    return &manifest;
}

__attribute__((export_name("perform"))) void *verger_export_perform(
    int32_t has_scope, int32_t has_organization, const char *organization, size_t organization_len,
    int32_t has_actor, const char *actor, size_t actor_len,
    int32_t has_impersonator, const char *impersonator, size_t impersonator_len,
    const char *args, size_t args_len) {
    static verger_outcome outcome;
    verger_scope scope = {
        { (uint8_t)has_organization, { organization, organization_len } },
        { (uint8_t)has_actor, { actor, actor_len } },
        { (uint8_t)has_impersonator, { impersonator, impersonator_len } },
    };
    verger_text text = { args, args_len };
    outcome = worker_perform(has_scope ? &scope : NULL, text);
    return &outcome;
}

#ifdef __cplusplus
}
#endif
#endif
#endif
