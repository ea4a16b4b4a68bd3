import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import test from 'node:test';
import { look, performed, reset, world } from './host.mjs';
import * as worker from '../{{entry}}';

const setup = readFileSync(new URL('../setup.sql', import.meta.url), 'utf8');

test('old orders are closed, and one that cannot be does not stop the others', () => {
  reset(setup);
  assert.deepEqual(performed(worker, {}), { tag: 'done-with', val: { closed: 2, errors: 1 } });
  assert.deepEqual(look("SELECT id FROM orders WHERE state = 'closed'"), [[1], [3]]);
  assert.deepEqual(look('SELECT organization_id, closed FROM closings ORDER BY 1'), [['acme', 1], ['bell', 1]]);
  assert.deepEqual(world.audited.map((event) => event.action), ['order.closed', 'order.not_closed', 'order.closed']);
});

test('batches of one come to the same', () => {
  reset(setup);
  assert.deepEqual(performed(worker, { batch_size: 1 }).val, { closed: 2, errors: 1 });
});

test('an arg of the wrong type discards the job, with its name', () => {
  reset(setup);
  const ended = performed(worker, { days: 'ten' });
  assert.equal(ended.tag, 'discard');
  assert.match(ended.val.message, /`days`/);
});
