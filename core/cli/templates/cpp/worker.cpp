// Closes orders that stayed open for too long, and counts them by day.
#define VERGER_MAIN
#include "verger.hpp"

constexpr std::int64_t DAY = 86'400'000;

verger_text worker_describe() {
    return verger_str(R"({
        "name": "{{name}}", "version": "0.1.0",
        "description": "Closes orders that stayed open for too long, and counts them by day.",
        "tenant_aware": true,
        "args": {
            "days": {"default": 30, "description": "Orders opened longer ago than so many days are closed."},
            "batch_size": {"default": 100, "description": "Orders between two commits."}
        },
        "tables": [
            {"table": "orders", "verbs": ["read", "update"]},
            {"table": "closings", "verbs": ["read", "insert", "update"]}
        ]
    })");
}

// One order, whole or not at all.
static bool close_order(verger_value id, verger_value organization) {
    verger::savepoint savepoint;
    if (!savepoint) return false;
    const std::int64_t day = verger_now() / DAY;
    if (!verger::execute("UPDATE orders SET state = 'closed' WHERE id = ?1 AND state = 'open'", {id})) return false;
    // UPDATE, then INSERT: a table confined to one organization takes no UPSERT.
    auto known = verger::execute("UPDATE closings SET closed = closed + 1 WHERE organization_id IS ?1 AND day = ?2", {organization, day});
    if (!known) return false;
    if (*known == 0 && !verger::execute("INSERT INTO closings (organization_id, day, closed) VALUES (?1, ?2, 1)", {organization, day})) return false;
    if (!verger::audit({.action = "order.closed", .organization = organization, .subject_type = "order", .subject_id = id})) return false;
    return savepoint.keep();
}

verger_outcome worker_perform(const verger_scope *, verger_text args) {
    auto days = verger::integer_arg(args, "$.days");
    if (!days) return verger_discarded();
    auto size = verger::integer_arg(args, "$.batch_size");
    if (!size) return verger_discarded();
    const std::int64_t before = verger_now() - *days * DAY;
    verger_value last = verger_integer(-1);
    std::uint32_t closed = 0, errors = 0;
    for (;;) {
        bool ended;
        {
            verger::scratch scratch;
            // Paged by its key: a checkpoint closes what is being read.
            auto page = verger::all(
                "SELECT id, organization_id FROM orders WHERE state = 'open' AND opened_at < ?1 AND id > ?2 ORDER BY id LIMIT ?3",
                {before, last, *size});
            if (!page) return verger_failed();
            for (std::size_t at = 0; at < page->rows.len; at += 1) {
                const verger_value *order = page->rows.ptr[at].ptr;
                last = order[0];
                if (close_order(order[0], order[1])) {
                    closed += 1;
                    continue;
                }
                // One bad row does not stop the others; anything else ends the attempt.
                if (!verger_concerns_one_row()) return verger_failed();
                errors += 1;
                std::string metadata = "{\"code\": \"" + std::string(verger::view(verger_error.code)) + "\"}";
                if (!verger::audit({.action = "order.not_closed", .outcome = VERGER_FAILURE, .organization = order[1],
                        .subject_type = "order", .subject_id = order[0], .metadata = metadata})) return verger_failed();
            }
            verger_progress(closed + errors, 0);
            ended = page->rows.len < static_cast<std::size_t>(*size);
        }
        if (ended) return verger_done_with(verger_format("{\"closed\": %u, \"errors\": %u}", closed, errors));
        if (!verger_checkpoint()) return verger_failed();
    }
}
