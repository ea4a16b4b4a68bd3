import { all, arg, audit, checkpoint, execute, HostError, now, progress, savepoint, worker } from './verger.js';

const DAY = 86_400_000;

interface Order { id: number; organization_id: string | null }

export const { describe, perform } = worker({
  name: '{{name}}',
  version: '0.1.0',
  description: 'Closes orders that stayed open for too long, and counts them by day.',
  tenant_aware: true,
  args: {
    days: { default: 30, description: 'Orders opened longer ago than so many days are closed.' },
    batch_size: { default: 100, description: 'Orders between two commits.' },
  },
  tables: [
    { table: 'orders', verbs: ['read', 'update'] },
    { table: 'closings', verbs: ['read', 'insert', 'update'] },
  ],
}, (args) => {
  const before = now() - arg(args, 'days', 'number') * DAY;
  const size = arg(args, 'batch_size', 'number');
  let [closed, errors, last] = [0, 0, -1];
  for (;;) {
    // Paged by its key: a checkpoint closes what is being read.
    const page = all<Order>(
      "SELECT id, organization_id FROM orders WHERE state = 'open' AND opened_at < ?1 AND id > ?2 ORDER BY id LIMIT ?3",
      before, last, size,
    );
    for (const order of page) {
      last = order.id;
      try {
        savepoint(() => close(order));
        closed += 1;
      } catch (error) {
        // One bad row does not stop the others; anything else ends the attempt.
        if (!(error instanceof HostError && error.concernsOneRow)) throw error;
        errors += 1;
        audit('order.not_closed', {
          outcome: 'failure', organization: order.organization_id, subject: ['order', order.id], metadata: { code: error.code },
        });
      }
    }
    progress(closed + errors);
    if (page.length < size) return { closed, errors };
    checkpoint();
  }
});

function close(order: Order): void {
  const day = Math.floor(now() / DAY);
  execute("UPDATE orders SET state = 'closed' WHERE id = ?1 AND state = 'open'", order.id);
  // UPDATE, then INSERT: a table confined to one organization takes no UPSERT.
  const known = execute('UPDATE closings SET closed = closed + 1 WHERE organization_id IS ?1 AND day = ?2', order.organization_id, day);
  if (known === 0) execute('INSERT INTO closings (organization_id, day, closed) VALUES (?1, ?2, 1)', order.organization_id, day);
  audit('order.closed', { organization: order.organization_id, subject: ['order', order.id] });
}
