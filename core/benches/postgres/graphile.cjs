// graphile-worker draining no-op jobs, for the bench beside it: node graphile.cjs <socket> <database> <jobs>
// Its defaults, and its fastest way: jobs fetched 500 at a time and completed in batches.
const { Pool } = require("pg");
const { run, runMigrations } = require("graphile-worker");

const [host, database, jobs] = process.argv.slice(2);
const quiet = new (require("graphile-worker").Logger)(() => () => {});
const ROUNDS = 3;

async function drain(pool, concurrency, worker) {
  await pool.query("SELECT graphile_worker.add_job('noop', '{\"customer\": 4711}') FROM generate_series(1, $1::int)", [jobs]);
  let performed = 0;
  const begun = process.hrtime.bigint();
  const runner = await run({
    pgPool: pool,
    logger: quiet,
    noHandleSignals: true,
    preset: { worker: { concurrentJobs: concurrency, ...worker } },
    taskList: { noop: () => { performed++; } },
  });
  while (performed < jobs) await new Promise((wake) => setTimeout(wake, 1));
  const took = Number(process.hrtime.bigint() - begun) / 1e9;
  // Those that it performed last are completed a little later.
  for (;;) {
    const { rows } = await pool.query("SELECT count(*)::int AS left FROM graphile_worker.jobs");
    if (rows[0].left === 0) break;
    if (Number(process.hrtime.bigint() - begun) / 1e9 > 120) throw new Error(`${rows[0].left} jobs are left`);
  }
  await runner.stop();
  return jobs / took;
}

async function main() {
  const pool = new Pool({ host, database, user: "postgres", max: 24 });
  await runMigrations({ pgPool: pool, logger: quiet });
  for (const [name, worker] of [
    ["as it comes", {}],
    ["local queue of 500", { localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 }],
  ]) {
    for (const concurrency of [1, 4, 16]) {
      const figures = [];
      for (let round = 0; round <= ROUNDS; round++) {
        const figure = await drain(pool, concurrency, worker);
        if (round > 0) figures.push(figure);
      }
      figures.sort((a, b) => a - b);
      console.log(`graphile-worker, ${name}, concurrency ${concurrency}: ${Math.round(figures[ROUNDS >> 1])} jobs/s`);
    }
  }
  await pool.end();
}

main().catch((error) => { console.error(error); process.exit(1); });
