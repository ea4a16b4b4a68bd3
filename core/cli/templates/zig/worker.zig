//! Closes orders that stayed open for too long, and counts them by day.
const verger = @import("verger.zig");

pub const panic = verger.panic;

const day_ms = 86_400_000;

const manifest =
    \\{"name": "{{name}}", "version": "0.1.0",
    \\ "description": "Closes orders that stayed open for too long, and counts them by day.",
    \\ "tenant_aware": true,
    \\ "args": {
    \\  "days": {"default": 30, "description": "Orders opened longer ago than so many days are closed."},
    \\  "batch_size": {"default": 100, "description": "Orders between two commits."}},
    \\ "tables": [
    \\  {"table": "orders", "verbs": ["read", "update"]},
    \\  {"table": "closings", "verbs": ["read", "insert", "update"]}]}
;

comptime {
    verger.worker(manifest, perform);
}

/// One order, whole or not at all.
fn closeOrder(id: verger.Value, organization: verger.Value) verger.Error!void {
    var savepoint = try verger.Savepoint.begin();
    errdefer savepoint.undo();
    const at = [_]verger.Value{ organization, verger.integer(@divFloor(verger.now(), day_ms)) };
    _ = try verger.execute("UPDATE orders SET state = 'closed' WHERE id = ?1 AND state = 'open'", &.{id});
    // UPDATE, then INSERT: a table confined to one organization takes no UPSERT.
    const known = try verger.execute("UPDATE closings SET closed = closed + 1 WHERE organization_id IS ?1 AND day = ?2", &at);
    if (known == 0) _ = try verger.execute("INSERT INTO closings (organization_id, day, closed) VALUES (?1, ?2, 1)", &at);
    try verger.audit(.{
        .action = verger.text("order.closed"),
        .organization_id = verger.cellText(organization),
        .subject_type = verger.some(verger.text("order")),
        .subject_id = verger.cellText(id),
    });
    try savepoint.keep();
}

fn perform(_: ?*const verger.Scope, args: verger.Text) verger.Error!verger.Outcome {
    const days = try verger.integerArg(args, "$.days");
    const size = try verger.integerArg(args, "$.batch_size");
    const before = verger.integer(verger.now() - days * day_ms);
    var last = verger.integer(-1);
    var closed: u32 = 0;
    var errors: u32 = 0;
    while (true) {
        const mark = verger.memory();
        // Paged by its key: a checkpoint closes what is being read.
        const page = try verger.all(
            "SELECT id, organization_id FROM orders WHERE state = 'open' AND opened_at < ?1 AND id > ?2 ORDER BY id LIMIT ?3",
            &.{ before, last, verger.integer(size) },
        );
        for (page.all()) |row| {
            const id, const organization = .{ row.cells()[0], row.cells()[1] };
            last = id;
            if (closeOrder(id, organization)) {
                closed += 1;
            } else |why| {
                // One bad row does not stop the others; anything else ends the attempt.
                if (!verger.concernsOneRow()) return why;
                errors += 1;
                try verger.audit(.{
                    .action = verger.text("order.not_closed"),
                    .outcome = .failure,
                    .organization_id = verger.cellText(organization),
                    .subject_type = verger.some(verger.text("order")),
                    .subject_id = verger.cellText(id),
                    .metadata = verger.some(verger.format("{{\"code\": \"{s}\"}}", .{verger.failure().code.slice()})),
                });
            }
        }
        verger.progress(closed + errors, 0);
        const is_last = page.all().len < size;
        verger.release(mark);
        if (is_last) return verger.doneWith(verger.format("{{\"closed\": {d}, \"errors\": {d}}}", .{ closed, errors }));
        try verger.checkpoint();
    }
}
