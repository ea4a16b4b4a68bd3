// The words of Verger's SDK for workers in JavaScript. Yours to read and to change.
//
// Numbers: an INTEGER beyond ±(2^53 - 1) is refused with the column's name rather than rounded: select it
// as CAST(column AS TEXT). A BigInt parameter is bound as text, which compares as a number with a column of
// that type. A boolean is bound as 0 or 1.

import * as store from 'verger:worker/store@0.1.0';
import * as auditLog from 'verger:worker/audit@0.1.0';
import * as clock from 'verger:worker/clock@0.1.0';
import * as events from 'verger:worker/events@0.1.0';
import * as job from 'verger:worker/job@0.1.0';
import * as lines from 'verger:worker/log@0.1.0';
import * as host from 'verger:worker/host@0.1.0';
import * as queue from 'verger:worker/queue@0.1.0';
import * as kept from 'verger:worker/state@0.1.0';

/** A call that the host refused. `code` is one of those listed in wit/worker.wit at `error.code`. */
export class HostError extends Error {
  constructor(code, message) {
    super(`${message} [${code}]`);
    this.name = 'HostError';
    this.code = code;
    this.words = message;
  }

  /** Whether one row's own content was refused: a sweep counts it and goes on. */
  get concernsOneRow() {
    return ['constraint', 'type', 'row'].includes(this.code);
  }
}

/** How a job may end beside returning: see failed, discard, snooze and cancel. */
class Ending {
  constructor(tag, val) {
    this.outcome = { tag, val };
  }
}

/** The attempt failed: what it wrote is undone, and it is tried again. As an exception does. */
export const failed = (message, code = 'failed') => new Ending('failed', { code, message });
/** As failed, and not tried again. */
export const discard = (message, code = 'failed') => new Ending('discard', { code, message });
/** Again after so many seconds; what was written stays. */
export const snooze = (seconds) => new Ending('snooze', seconds);
/** Ends the job; what was written stays. */
export const cancel = (reason) => new Ending('cancel', reason);

function call(work) {
  try {
    return work();
  } catch (error) {
    const payload = error?.payload;
    if (payload && typeof payload.code === 'string') throw new HostError(payload.code, payload.message);
    throw error;
  }
}

function toValue(value, place) {
  if (value === null || value === undefined) return { tag: 'null' };
  switch (typeof value) {
    case 'boolean': return { tag: 'integer', val: value ? 1 : 0 };
    case 'bigint': return { tag: 'text', val: value.toString() };
    case 'string': return { tag: 'text', val: value };
    case 'number':
      if (!Number.isInteger(value) || Object.is(value, -0)) return { tag: 'real', val: value };
      if (Number.isSafeInteger(value)) return { tag: 'integer', val: value };
      throw new RangeError(`${place} is ${value}, which is not exact: give a BigInt`);
  }
  if (value instanceof Uint8Array) return { tag: 'blob', val: value };
  throw new TypeError(`${place} is no value that SQLite has: ${Object.prototype.toString.call(value)}`);
}

function fromValue(value, place) {
  if (value.tag === 'null') return null;
  if (value.tag !== 'integer') return value.val;
  const number = Number(value.val);
  if (Number.isSafeInteger(number)) return number;
  throw new RangeError(`${place} holds an integer beyond 2^53, which a number would round: select CAST(… AS TEXT)`);
}

const toValues = (params) => params.map((param, at) => toValue(param, `parameter ?${at + 1}`));

function toRow(columns, values) {
  const row = {};
  columns.forEach((column, at) => { row[column] = fromValue(values[at], `column ${column}`); });
  return row;
}

/** All rows of a query as objects, as far as one chunk (16 MiB) goes. */
export function all(sql, ...params) {
  const { columns, rows } = call(() => store.queryAll(sql, toValues(params)));
  return rows.map((values) => toRow(columns, values));
}

/** The first row of a query, or undefined. */
export function one(sql, ...params) {
  for (const row of rows(sql, ...params)) return row;
  return undefined;
}

/** The rows of a query, read a few hundred at a time. A checkpoint closes it: page by a key. */
export function* rows(sql, ...params) {
  const cursor = call(() => store.query(sql, toValues(params)));
  const columns = cursor.columns();
  for (;;) {
    const chunk = call(() => cursor.next(256));
    if (chunk.length === 0) return;
    for (const values of chunk) yield toRow(columns, values);
  }
}

/** Runs one statement; the number of rows it changed. */
export const execute = (sql, ...params) => Number(call(() => store.execute(sql, toValues(params))));

/** Does the work whole or not at all: what it wrote is undone when it throws. Its return value. */
export function savepoint(work) {
  const point = call(() => store.beginSavepoint());
  let done;
  try {
    done = work();
  } catch (error) {
    try { point.rollback(); } catch { /* closed with the transaction: nothing is left to undo */ }
    throw error;
  }
  call(() => point.release());
  return done;
}

/** Commits what was done so far and lets others write. */
export const checkpoint = () => call(() => store.checkpoint());
/** Whether others wait for a checkpoint. */
export const checkpointDue = () => store.checkpointDue();

/** Writes to the audit log: audit('order.closed', { subject: ['order', 7], metadata: {…} }). The row's id. */
export function audit(action, event = {}) {
  const json = (value) => (value === undefined ? undefined : JSON.stringify(value));
  const [subjectType, subjectId] = event.subject ?? [];
  const ids = call(() => auditLog.append([{
    action,
    outcome: event.outcome ?? 'success',
    organizationId: event.organization ?? undefined,
    subjectType,
    subjectId: subjectId === undefined ? undefined : String(subjectId),
    before: json(event.before),
    after: json(event.after),
    metadata: json(event.metadata),
  }]));
  return Number(ids[0]);
}

/** Tells the app, once this is committed. */
export const publish = (topic, payload) => call(() => events.publish(topic, JSON.stringify(payload)));
/** Calls a function of the app. */
export const callApp = (name, request) => JSON.parse(call(() => host.call(name, JSON.stringify(request))));
/** Enqueues a job in this transaction: { id, existing }. */
export const enqueue = (worker, args = {}, options = {}) => enqueueAll([{ worker, args, options }])[0];
/** Enqueues many, all or none. */
export const enqueueAll = (jobs) => call(() => queue.enqueue(jobs.map(({ worker, args = {}, options = {} }) => (
  { worker, args: JSON.stringify(args), options: JSON.stringify(options) }
)))).map(({ id, existing }) => ({ id: Number(id), existing }));
/** What was kept under a key, or null. */
export const getState = (key) => fromValue(call(() => kept.get(key)), `the state ${key}`);
/** Keeps a small value for later jobs; null forgets it. */
export const setState = (key, value) => call(() => kept.set(key, toValue(value, `the state ${key}`)));
/** How far the work is; total 0 means unknown. */
export const progress = (done, total = 0) => job.progress(done, total);
/** Whether someone asked the job to stop. */
export const isCancelled = () => job.isCancelled();
/** Now, in unix milliseconds, by the host's clock. */
export const now = () => Number(clock.now());

/** The job: id, attempt, maxAttempts, deadline, slot. */
export function currentJob() {
  const number = (value) => (value === undefined || value === null ? undefined : Number(value));
  const slot = job.scheduled();
  return {
    id: number(job.id()),
    attempt: job.attempt(),
    maxAttempts: job.maxAttempts(),
    deadline: Number(job.deadline()),
    slot: slot && { schedule: slot.schedule, at: Number(slot.at), missed: slot.missed, after: number(slot.after), zone: slot.zone },
  };
}

const write = (level) => (...parts) => lines.write(level, parts.map((part) => (
  typeof part === 'string' ? part : part instanceof Error ? describeError(part) : JSON.stringify(part) ?? String(part)
)).join(' '));
/** Lines for the app's log. */
export const log = { trace: write('trace'), debug: write('debug'), info: write('info'), warn: write('warn'), error: write('error') };
globalThis.console ??= { ...log, log: log.info };

/** An arg that must be there: arg(args, 'days', 'number'). Without it the job is discarded, with the key's name. */
export function arg(args, key, type) {
  const value = args[key];
  if (value === undefined) throw new BadArg(`the arg \`${key}\` is missing`);
  if (type !== undefined && typeof value !== type) throw new BadArg(`the arg \`${key}\` must be a ${type}, not ${JSON.stringify(value)}`);
  return value;
}

class BadArg extends Error {}

const describeError = (error) => `${error?.name ?? 'Error'}: ${error?.message ?? error}\n${error?.stack ?? ''}`.trimEnd();

/**
 * The exports of a worker: `export const { describe, perform } = worker(manifest, (args, scope) => …)`.
 * What the function returns is the job's result; what it throws is its failure, with text and stack.
 */
export function worker(manifest, work) {
  return {
    describe: () => JSON.stringify(manifest),
    perform(scope, args) {
      try {
        const ended = work(JSON.parse(args), scope ?? undefined);
        if (ended instanceof Ending) return ended.outcome;
        if (ended === undefined) return { tag: 'done' };
        return { tag: 'done-with', val: JSON.stringify(ended) };
      } catch (error) {
        if (error instanceof Ending) return error.outcome;
        if (error instanceof BadArg) return { tag: 'discard', val: { code: 'args', message: error.message } };
        if (error instanceof HostError) return { tag: 'failed', val: { code: error.code, message: `${error.words}\n${error.stack ?? ''}`.trimEnd() } };
        return { tag: 'failed', val: { code: 'exception', message: describeError(error) } };
      }
    },
  };
}
