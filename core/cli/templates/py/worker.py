"""Closes orders that stayed open for too long, and counts them by day."""

import json
from typing import Any, Dict

import verger

DAY = 86_400_000

MANIFEST = {
    "name": "{{name}}",
    "version": "0.1.0",
    "description": "Closes orders that stayed open for too long, and counts them by day.",
    "tenant_aware": True,
    "args": {
        "days": {"default": 30, "description": "Orders opened longer ago than so many days are closed."},
        "batch_size": {"default": 100, "description": "Orders between two commits."},
    },
    "tables": [
        {"table": "orders", "verbs": ["read", "update"]},
        {"table": "closings", "verbs": ["read", "insert", "update"]},
    ],
}


def close_stale_orders(args: Dict[str, Any], scope: Any) -> Any:
    before = verger.now() - verger.arg(args, "days", int) * DAY
    size = verger.arg(args, "batch_size", int)
    closed, errors, last = 0, 0, -1
    while True:
        # Paged by its key: a checkpoint closes what is being read.
        page = verger.all(
            "SELECT id, organization_id FROM orders WHERE state = 'open' AND opened_at < ?1 AND id > ?2 ORDER BY id LIMIT ?3",
            before, last, size,
        )
        for order in page:
            last = order["id"]
            try:
                with verger.savepoint():
                    close(order)
                closed += 1
            except verger.HostError as error:
                # One bad row does not stop the others; anything else ends the attempt.
                if not error.concerns_one_row:
                    raise
                errors += 1
                verger.audit(
                    "order.not_closed", "failure", organization=order["organization_id"],
                    subject=("order", order["id"]), metadata={"code": error.code},
                )
        verger.progress(closed + errors)
        if len(page) < size:
            return {"closed": closed, "errors": errors}
        verger.checkpoint()


def close(order: Dict[str, Any]) -> None:
    organization, day = order["organization_id"], verger.now() // DAY
    verger.execute("UPDATE orders SET state = 'closed' WHERE id = ?1 AND state = 'open'", order["id"])
    # UPDATE, then INSERT: a table confined to one organization takes no UPSERT.
    known = verger.execute("UPDATE closings SET closed = closed + 1 WHERE organization_id IS ?1 AND day = ?2", organization, day)
    if known == 0:
        verger.execute("INSERT INTO closings (organization_id, day, closed) VALUES (?1, ?2, 1)", organization, day)
    verger.audit("order.closed", organization=organization, subject=("order", order["id"]))


class WitWorld:
    def describe(self) -> str:
        return json.dumps(MANIFEST)

    def perform(self, scope: Any, args: str) -> Any:
        return verger.run(close_stale_orders, scope, args)
