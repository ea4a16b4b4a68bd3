// Enqueues jobs from Node.js, inside a transaction of its own: enqueue.cjs FILE JOBS commit|rollback
//
// With better-sqlite3. Prints the unix time of the commit, in milliseconds.
'use strict';

const Database = require('better-sqlite3');

const [file, jobs, end] = process.argv.slice(2);
const app = new Database(file, { timeout: 5000 });
const order = app.prepare("INSERT INTO orders (client) VALUES ('node')");
const job = app.prepare('INSERT INTO verger_jobs (worker, args) VALUES (?, ?)');
app.exec('BEGIN IMMEDIATE');
for (let number = 0; number < Number(jobs); number += 1) {
  job.run('count', JSON.stringify({ order: Number(order.run().lastInsertRowid) }));
}
app.exec(end);
console.log(Date.now());
