/* Closes orders that stayed open for too long, and counts them by day. */
#define VERGER_MAIN
#include "verger.h"

#define DAY 86400000LL

verger_text worker_describe(void) {
    return verger_str(
        "{\"name\": \"{{name}}\", \"version\": \"0.1.0\","
        " \"description\": \"Closes orders that stayed open for too long, and counts them by day.\","
        " \"tenant_aware\": true,"
        " \"args\": {"
        "  \"days\": {\"default\": 30, \"description\": \"Orders opened longer ago than so many days are closed.\"},"
        "  \"batch_size\": {\"default\": 100, \"description\": \"Orders between two commits.\"}},"
        " \"tables\": ["
        "  {\"table\": \"orders\", \"verbs\": [\"read\", \"update\"]},"
        "  {\"table\": \"closings\", \"verbs\": [\"read\", \"insert\", \"update\"]}]}");
}

static bool close_order(verger_value id, verger_value organization) {
    verger_value day = verger_integer(verger_now() / DAY);
    verger_value at[] = { organization, day };
    uint32_t known;
    if (!verger_execute("UPDATE orders SET state = 'closed' WHERE id = ?1 AND state = 'open'", &id, 1, NULL)) return false;
    /* UPDATE, then INSERT: a table confined to one organization takes no UPSERT. */
    if (!verger_execute("UPDATE closings SET closed = closed + 1 WHERE organization_id IS ?1 AND day = ?2", at, 2, &known)) return false;
    if (known == 0 && !verger_execute("INSERT INTO closings (organization_id, day, closed) VALUES (?1, ?2, 1)", at, 2, NULL)) return false;
    verger_event event = { .action = verger_str("order.closed"), .organization_id = verger_cell_text(organization),
        .subject_type = verger_some(verger_str("order")), .subject_id = verger_cell_text(id) };
    return verger_audit(&event);
}

/* One order, whole or not at all. */
static bool close_whole(verger_value id, verger_value organization) {
    verger_savepoint savepoint;
    if (!verger_begin(&savepoint)) return false;
    if (close_order(id, organization)) return verger_keep(savepoint);
    verger_undo(savepoint);
    return false;
}

verger_outcome worker_perform(const verger_scope *scope, verger_text args) {
    (void)scope;
    verger_value days, size;
    if (!verger_arg(args, "$.days", VERGER_INTEGER, &days)) return verger_discarded();
    if (!verger_arg(args, "$.batch_size", VERGER_INTEGER, &size)) return verger_discarded();
    verger_value before = verger_integer(verger_now() - days.as.integer * DAY), last = verger_integer(-1);
    uint32_t closed = 0, errors = 0;
    for (;;) {
        verger_mark mark = verger_memory();
        verger_value params[] = { before, last, size };
        verger_table page;
        /* Paged by its key: a checkpoint closes what is being read. */
        if (!verger_all("SELECT id, organization_id FROM orders WHERE state = 'open' AND opened_at < ?1 AND id > ?2 ORDER BY id LIMIT ?3",
                params, 3, &page)) return verger_failed();
        for (size_t at = 0; at < page.rows.len; at += 1) {
            const verger_value *order = page.rows.ptr[at].ptr;
            last = order[0];
            if (close_whole(order[0], order[1])) {
                closed += 1;
                continue;
            }
            /* One bad row does not stop the others; anything else ends the attempt. */
            if (!verger_concerns_one_row()) return verger_failed();
            errors += 1;
            verger_event event = { .action = verger_str("order.not_closed"), .outcome = VERGER_FAILURE,
                .organization_id = verger_cell_text(order[1]), .subject_type = verger_some(verger_str("order")),
                .subject_id = verger_cell_text(order[0]),
                .metadata = verger_some(verger_format("{\"code\": \"%.*s\"}", (int)verger_error.code.len, verger_error.code.ptr)) };
            if (!verger_audit(&event)) return verger_failed();
        }
        verger_progress(closed + errors, 0);
        bool ended = page.rows.len < (uint64_t)size.as.integer;
        verger_release(mark);
        if (ended) return verger_done_with(verger_format("{\"closed\": %u, \"errors\": %u}", closed, errors));
        if (!verger_checkpoint()) return verger_failed();
    }
}
