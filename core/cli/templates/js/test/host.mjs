// A host for tests: SQLite in memory, no app, no component.
import initSqlJs from 'sql.js';

const SQL = await initSqlJs();
const fail = (code, message) => Object.assign(new Error(message), { payload: { code, message } });

export const world = { audited: [], published: [], enqueued: [], state: new Map(), lines: [], now: 1_767_225_600_000 };
let db;

/** A fresh database. */
export function reset(sql) {
  db = new SQL.Database();
  db.run(sql);
  Object.assign(world, { audited: [], published: [], enqueued: [], state: new Map(), lines: [] });
}

/** The rows of a query, for assertions. */
export const look = (sql) => db.exec(sql)[0]?.values ?? [];

/** Performs as the host does: in one transaction, undone when it fails. */
export function performed(worker, args, scope) {
  db.run('BEGIN');
  const defaults = Object.entries(JSON.parse(worker.describe()).args ?? {}).map(([key, spec]) => [key, spec.default]);
  const ended = worker.perform(scope, JSON.stringify({ ...Object.fromEntries(defaults), ...args }));
  db.run(['failed', 'discard'].includes(ended.tag) ? 'ROLLBACK' : 'COMMIT');
  return ended.tag === 'done-with' ? { ...ended, val: JSON.parse(ended.val) } : ended;
}

function step(sql, params, take) {
  let statement;
  try {
    statement = db.prepare(sql);
  } catch (error) {
    throw fail('sql', error.message);
  }
  try {
    statement.bind(params.map((param) => param.val ?? null));
    return take(statement);
  } catch (error) {
    throw error.payload ? error : fail(/constraint|RAISE/i.test(error.message) ? 'constraint' : 'row', error.message);
  } finally {
    statement.free();
  }
}

const classify = (value) => {
  if (value === null) return { tag: 'null' };
  if (typeof value === 'number') return Number.isInteger(value) ? { tag: 'integer', val: value } : { tag: 'real', val: value };
  return typeof value === 'string' ? { tag: 'text', val: value } : { tag: 'blob', val: value };
};

export const queryAll = (sql, params) => step(sql, params, (statement) => {
  const rows = [];
  while (statement.step()) rows.push(statement.get().map(classify));
  return { columns: statement.getColumnNames(), rows };
});

export function query(sql, params) {
  const { columns, rows } = queryAll(sql, params);
  return { columns: () => columns, next: (most) => rows.splice(0, most) };
}

export const execute = (sql, params) => step(sql, params, (statement) => {
  statement.step();
  return db.getRowsModified();
});

let points = 0;
export function beginSavepoint() {
  const name = `point_${points += 1}`;
  const audited = world.audited.length;
  db.run(`SAVEPOINT ${name}`);
  return {
    release: () => db.run(`RELEASE ${name}`),
    rollback: () => {
      db.run(`ROLLBACK TO ${name}; RELEASE ${name}`);
      world.audited.length = audited;
    },
  };
}

export const checkpoint = () => db.run('COMMIT; BEGIN');
export const checkpointDue = () => false;
export const append = (events) => events.map((event) => world.audited.push(event));
export const now = () => world.now;
export const publish = (topic, payload) => { world.published.push([topic, JSON.parse(payload)]); };
export const write = (level, line) => { world.lines.push([level, line]); };
export const call = (name) => { throw fail('denied', `capability ${name} is not granted`); };
export const enqueue = (jobs) => jobs.map((job) => ({ id: world.enqueued.push(job), existing: false }));
export const get = (key) => world.state.get(key) ?? { tag: 'null' };
export const set = (key, value) => { world.state.set(key, value); };
export const id = () => 1;
export const attempt = () => 1;
export const maxAttempts = () => 1;
export const deadline = () => world.now + 60_000;
export const scheduled = () => undefined;
export const progress = () => {};
export const isCancelled = () => false;
