-- Verger's own tables. Times are unix milliseconds, always bound from the clock Verger was given.
--
-- Conditions that are evaluated for every row written are chains of OR, not IN: for an IN of three values or more SQLite builds a table
-- in memory, anew at each execution, which costs more than all the rest of a small statement.

-- One durable row a job. The app, its triggers and programs in any language may INSERT one; of the columns only `worker` is required, and
-- these may be given: worker, args, args_version, queue, priority, due_at, max_attempts, tenant_aware, created_at, unique_key. The others are Verger's.
-- INSERT INTO verger_jobs (worker, args) VALUES ('send-mail', json_object('message', NEW.id))
CREATE TABLE verger_jobs (
    id INTEGER PRIMARY KEY,                         -- never reused: pruning keeps the newest row
    worker TEXT NOT NULL                            -- the name of the worker that performs it
        CONSTRAINT worker_must_be_named CHECK (worker <> ''),
    queue TEXT NOT NULL DEFAULT 'default'           -- jobs of one queue run in order, one at a time by default
        CONSTRAINT queue_must_have_1_to_128_characters CHECK (length(queue) BETWEEN 1 AND 128),
    priority INTEGER NOT NULL DEFAULT 5             -- 0 first
        CONSTRAINT priority_must_be_0_to_9 CHECK (priority BETWEEN 0 AND 9),
    state TEXT NOT NULL DEFAULT 'available'
        CONSTRAINT state_must_be_one_of_those_documented CHECK (state = 'available' OR state = 'executing' OR state = 'completed'
            OR state = 'scheduled' OR state = 'retryable' OR state = 'discarded' OR state = 'cancelled'),
    args TEXT NOT NULL DEFAULT '{}'                 -- a JSON object
        CONSTRAINT args_must_be_a_json_object CHECK (json_valid(args) AND json_type(args) = 'object'),
    args_version INTEGER NOT NULL DEFAULT 1         -- the version of the args they were written for: a statement stays what it was
        CONSTRAINT args_version_must_be_at_least_1 CHECK (args_version BETWEEN 1 AND 4294967295),
    tenant_aware INTEGER NOT NULL DEFAULT 0,        -- 1: args must carry the keys organization_id and actor_id
    due_at INTEGER NOT NULL DEFAULT 0               -- not performed before; whoever inserts a row for later leaves its state at the default
        CONSTRAINT due_at_must_be_before_the_year_10000 CHECK (due_at < 253402300800000),
    attempt INTEGER NOT NULL DEFAULT 0 CHECK (attempt BETWEEN 0 AND 4294967294), -- attempts begun
    max_attempts INTEGER NOT NULL DEFAULT 20        -- at most 4294967295
        CONSTRAINT max_attempts_must_be_at_least_1 CHECK (max_attempts BETWEEN 1 AND 4294967295),
    snoozes INTEGER NOT NULL DEFAULT 0 CHECK (snoozes BETWEEN 0 AND 4294967295),
    token INTEGER NOT NULL DEFAULT 0 CHECK (token BETWEEN 0 AND 4611686018427387904), -- the fencing token: grows with every claim
    claimed_by TEXT,                                -- the executor that holds it
    lease_until INTEGER,                            -- until when it holds it; of a completed job a leftover, see verger_jobs_held
    cancel_requested INTEGER NOT NULL DEFAULT 0 CHECK (cancel_requested BETWEEN 0 AND 1), -- 1: while it is executing: the end of the attempt is its end, completed or cancelled
    created_at INTEGER NOT NULL DEFAULT 0,          -- 0: whoever wrote the row did not say
    attempted_at INTEGER,                           -- when the last attempt was claimed
    finished_at INTEGER,                            -- when it reached a final state
    result TEXT,                                    -- JSON, from done-with
    errors TEXT,                                    -- JSON array of {attempt, at, code, message}, the last 20
    worker_version TEXT,                            -- the version of the worker that performed the last attempt that ended
    worker_digest TEXT,                             -- and the SHA-256 of its component; NULL for one that is part of the app
    schedule TEXT,                                  -- the schedule that made it
    slot INTEGER,                                   -- the instant of that schedule it was made for
    missed INTEGER NOT NULL DEFAULT 0 CHECK (missed BETWEEN 0 AND 4294967295), -- earlier slots it stands for
    slot_after INTEGER,                             -- the slot before those it stands for
    zone TEXT,                                      -- the time zone of that schedule
    progress_done INTEGER,
    progress_total INTEGER,
    unique_key BLOB,                                -- while this job is unfinished, no other unfinished one can have it
    unique_until INTEGER,                           -- until then no other can have it, even when the job is finished
    traceparent TEXT,                               -- the W3C trace context it was enqueued in
    tags TEXT,                                      -- a JSON array of words, to find it by
    meta TEXT,                                      -- a JSON object of the app's, which no worker sees
    CONSTRAINT an_executing_job_must_have_a_lease CHECK (state <> 'executing' OR lease_until IS NOT NULL),
    CONSTRAINT errors_must_be_a_json_array CHECK (errors IS NULL OR json_type(errors) = 'array'),
    CONSTRAINT result_must_be_json CHECK (result IS NULL OR json_valid(result)),
    CONSTRAINT tags_must_be_a_json_array CHECK (tags IS NULL OR json_type(tags) = 'array'),
    CONSTRAINT meta_must_be_a_json_object CHECK (meta IS NULL OR json_type(meta) = 'object'),
    CONSTRAINT args_must_have_organization_id_and_actor_id CHECK (tenant_aware = 0
        OR (json_type(args, '$.organization_id') IS NOT NULL AND json_type(args, '$.actor_id') IS NOT NULL))
) STRICT;

-- What can be claimed, in the order of the claim within one worker's jobs. A claim reads only what it takes, however long the backlog:
-- jobs of a worker that a process lacks, or for args that its version does not know, are jumped over.
CREATE INDEX verger_jobs_due ON verger_jobs (queue, priority, worker, args_version, due_at)
    WHERE state = 'scheduled' OR state = 'available' OR state = 'retryable';
-- What is held, for rescue; and what completed since the last claim. Completing leaves lease_until alone, so that it writes one page and
-- no index: the next claim moves what is left over from this index to the one below, all at once.
CREATE INDEX verger_jobs_held ON verger_jobs (lease_until) WHERE lease_until IS NOT NULL;
-- What is finished, for pruning.
CREATE INDEX verger_jobs_finished ON verger_jobs (state, finished_at) WHERE finished_at IS NOT NULL AND lease_until IS NULL;
-- Of the states that few jobs are in and somebody asks for first. The condition is word for word that of the statements.
CREATE INDEX verger_jobs_rare ON verger_jobs (state)
    WHERE state = 'discarded' OR state = 'cancelled' OR state = 'retryable';
-- What a schedule has under way, for the overlap rule.
CREATE INDEX verger_jobs_of_schedule ON verger_jobs (schedule) WHERE schedule IS NOT NULL AND finished_at IS NULL;
CREATE UNIQUE INDEX verger_jobs_unique ON verger_jobs (unique_key)
    WHERE unique_key IS NOT NULL AND (finished_at IS NULL OR unique_until IS NOT NULL);

-- Which component is the dropped-in worker of a name, from its first open on. Another file of that name is refused.
CREATE TABLE verger_plugins (
    name TEXT PRIMARY KEY,
    digest TEXT NOT NULL,                           -- SHA-256, in hexadecimal digits, of the version that runs
    source TEXT NOT NULL,                           -- the path of its file: one with new bytes is a new version
    first_seen_at INTEGER NOT NULL,
    bound_at INTEGER NOT NULL,                      -- when it got this digest or path
    previous TEXT,                                  -- SHA-256 of the version before: what a rollback takes back
    withdrawn TEXT                                  -- SHA-256 of a version that was rolled back: it does not run until it is approved
) STRICT, WITHOUT ROWID;

-- What each version says of itself: a file that is as it was is not loaded to learn its name.
CREATE TABLE verger_plugin_versions (
    digest TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    manifest TEXT NOT NULL,                         -- JSON
    source TEXT NOT NULL,                           -- the path of the file it was read from
    stamp TEXT NOT NULL,                            -- how that file looked: size, times, number
    seen_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX verger_plugin_versions_of ON verger_plugin_versions (name);

-- The bytes of the version that runs and of the one before, in parts: a broken or refused file does not stop the worker, at a start
-- neither, and a rollback needs no file.
CREATE TABLE verger_plugin_code (
    digest TEXT NOT NULL,
    part INTEGER NOT NULL,                          -- from the last one, written first, to 0
    bytes BLOB NOT NULL,
    PRIMARY KEY (digest, part)
) STRICT;

-- What dropped-in workers were granted, one row a thing, where the app's code grants them nothing itself. No worker can write here.
CREATE TABLE verger_grants (
    worker TEXT NOT NULL,
    what TEXT NOT NULL,                             -- read, insert, update or delete and a table; capability and a name; enqueue and a worker
    digest TEXT NOT NULL,                           -- SHA-256 of the component that was looked at
    decision TEXT NOT NULL CHECK (decision = 'granted' OR decision = 'denied' OR decision = 'revoked'),
    decided_by TEXT NOT NULL,
    decided_at INTEGER NOT NULL,
    PRIMARY KEY (worker, what)
) STRICT, WITHOUT ROWID;

-- What workers keep between their jobs: a few small values each, those of each organization apart. They commit with the job that sets them.
CREATE TABLE verger_state (
    worker TEXT NOT NULL,
    organization_id TEXT,                           -- NULL: of jobs that run for none
    key TEXT NOT NULL,
    value ANY,                                      -- as the worker gave it: INTEGER, REAL, TEXT or BLOB
    updated_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX verger_state_key ON verger_state (worker, organization_id, key);
CREATE UNIQUE INDEX verger_state_of_none ON verger_state (worker, key) WHERE organization_id IS NULL;
-- What the user set for a worker, which reads it by the capability `settings`.
CREATE TABLE verger_settings (
    worker TEXT PRIMARY KEY,
    settings TEXT NOT NULL CHECK (json_type(settings) = 'object'),
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What is said of a queue. A queue needs no row.
CREATE TABLE verger_queues (
    name TEXT PRIMARY KEY,
    paused INTEGER NOT NULL,                        -- 1: nothing is claimed from it
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- One row a named recurring rule.
CREATE TABLE verger_schedules (
    name TEXT PRIMARY KEY,
    expression TEXT NOT NULL,                       -- crontab(5), or `@every 5m`
    timezone TEXT NOT NULL,                         -- IANA name
    worker TEXT NOT NULL,
    args TEXT NOT NULL CHECK (json_valid(args) AND json_type(args) = 'object'),
    args_version INTEGER NOT NULL DEFAULT 1,        -- the version of the args they were written for
    queue TEXT NOT NULL,
    priority INTEGER NOT NULL,
    max_attempts INTEGER NOT NULL,
    missed TEXT NOT NULL,                           -- coalesce, skip, or `replay N`
    overlap TEXT NOT NULL CHECK (overlap IN ('forbid', 'allow')),
    deadline_ms INTEGER,                            -- a slot older than this is skipped
    jitter_ms INTEGER NOT NULL DEFAULT 0,
    paused INTEGER NOT NULL DEFAULT 0,
    anchor INTEGER NOT NULL,                        -- when the expression was set: where an interval starts to count
    next_fire_at INTEGER,                           -- the next slot; NULL: none
    last_slot INTEGER,                              -- the last slot in the ledger
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX verger_schedules_due ON verger_schedules (next_fire_at) WHERE next_fire_at IS NOT NULL;

-- Which schedules the app's code registered, and under which name of a set. One without a row was added by an operator, or at run time.
CREATE TABLE verger_registrations (
    schedule TEXT PRIMARY KEY,
    registered_by TEXT NOT NULL,                    -- the name of the set; '' where the app named none
    registered_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What the clock read when something was last decided: it shows when the clock was wrong for a while.
CREATE TABLE verger_clock (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    read_at INTEGER NOT NULL,                       -- the last reading that was noted
    before_jump INTEGER,                            -- while a leap forward is in doubt: the reading before it
    jumped_at INTEGER,                              -- and the first one after it
    set_back_at INTEGER,                            -- while a leap backward is in doubt: the first reading after it
    boot TEXT                                       -- the start of the machine in which @reboot schedules fired last
) STRICT;

-- The fire ledger: one row a slot, whatever became of it.
CREATE TABLE verger_fires (
    schedule TEXT NOT NULL,
    slot INTEGER NOT NULL,
    fired_at INTEGER NOT NULL,                      -- when it was decided
    outcome TEXT NOT NULL CHECK (outcome = 'enqueued' OR outcome = 'coalesced' OR outcome = 'skipped'),
    reason TEXT,                                    -- for skipped: overlap, deadline, paused, missed, changed, removed, 'worker: …', 'unreadable: …'; run-now: no slot, a job someone asked for
    missed INTEGER NOT NULL DEFAULT 0,              -- slots before it that this row stands for too
    job INTEGER,                                    -- the job it made, or that stands for it
    PRIMARY KEY (schedule, slot)
) STRICT, WITHOUT ROWID;

-- What an app that was closed is told of: ends and failures of jobs, slots that made no job or stand for others, queues paused and resumed.
-- Written in the transaction of what it tells of, so the order of the rows is that of the commits.
CREATE TABLE verger_events (
    id INTEGER PRIMARY KEY,                         -- never reused: pruning keeps the newest row
    at INTEGER NOT NULL,
    source INTEGER NOT NULL,                        -- which process wrote it: a number of its own, by chance
    kind TEXT NOT NULL,                             -- completed, retried, discarded, cancelled, coalesced, skipped, queue_paused, queue_resumed, enqueued
    data TEXT NOT NULL                              -- JSON: the event; of completed, the ids of all jobs that one transaction completed
) STRICT;

-- What a worker logged, an attempt a row. It goes with its job.
CREATE TABLE verger_logs (
    job INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    at INTEGER NOT NULL,                            -- when the attempt ended
    dropped INTEGER NOT NULL,                       -- lines before these that were dropped: a log is bounded
    lines TEXT NOT NULL,                            -- JSON: an array of {at, level, text}, the last ones
    PRIMARY KEY (job, attempt)
) STRICT, WITHOUT ROWID;

-- The audit log: append-only, each row chained to the one before.
CREATE TABLE verger_audit (
    id INTEGER PRIMARY KEY,
    occurred_at INTEGER NOT NULL,
    action TEXT NOT NULL,
    outcome TEXT NOT NULL CHECK (outcome = 'success' OR outcome = 'failure' OR outcome = 'error'),
    organization_id TEXT,
    actor_id TEXT,                                  -- who did it: the impersonator when there is one
    effective_user_id TEXT,                         -- as whom
    impersonating_from TEXT,
    worker TEXT,
    worker_version TEXT,
    job INTEGER,
    attempt INTEGER,
    subject_type TEXT,
    subject_id TEXT,
    before TEXT,                                    -- JSON
    after TEXT,                                     -- JSON
    metadata TEXT,                                  -- a JSON object
    hash BLOB NOT NULL                              -- SHA-256 over the hash before and this row
) STRICT;

CREATE TRIGGER verger_audit_no_update BEFORE UPDATE ON verger_audit BEGIN
    SELECT RAISE(ABORT, 'verger_audit_append_only: a row of the audit log cannot be changed');
END;
-- INSERT OR REPLACE deletes without asking the trigger below.
CREATE TRIGGER verger_audit_no_replace BEFORE INSERT ON verger_audit WHEN EXISTS (SELECT 1 FROM verger_audit WHERE id = NEW.id) BEGIN
    SELECT RAISE(ABORT, 'verger_audit_append_only: a row of the audit log cannot be replaced');
END;
-- The newest row, as the last transaction that added any left it: without it, removing the newest rows would leave a whole chain.
CREATE TABLE verger_audit_head (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    id INTEGER NOT NULL,
    hash BLOB NOT NULL
) STRICT;
INSERT INTO verger_audit_head (one, id, hash) VALUES (1, 0, zeroblob(32));

-- The last row that retention took out: where the chain of those that stay begins.
CREATE TABLE verger_audit_anchor (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    id INTEGER NOT NULL,
    hash BLOB NOT NULL,
    cutoff INTEGER,                                 -- rows written before this instant were to go
    pruned_at INTEGER                               -- when they went
) STRICT;
INSERT INTO verger_audit_anchor (one, id, hash) VALUES (1, 0, zeroblob(32));

CREATE TRIGGER verger_audit_no_delete BEFORE DELETE ON verger_audit WHEN OLD.id > (SELECT id FROM verger_audit_anchor) BEGIN
    SELECT RAISE(ABORT, 'verger_audit_append_only: a row of the audit log cannot be deleted');
END;
CREATE TRIGGER verger_audit_anchor_forward BEFORE UPDATE ON verger_audit_anchor
WHEN NEW.id <= OLD.id OR NEW.id > (SELECT id FROM verger_audit_head)
    OR NEW.hash IS NOT (SELECT hash FROM verger_audit WHERE id = NEW.id) BEGIN
    SELECT RAISE(ABORT, 'verger_audit_append_only: the anchor of the audit log moves forward only, onto one of its rows');
END;
CREATE TRIGGER verger_audit_anchor_no_delete BEFORE DELETE ON verger_audit_anchor BEGIN
    SELECT RAISE(ABORT, 'verger_audit_append_only: the anchor of the audit log cannot be deleted');
END;
CREATE TRIGGER verger_audit_anchor_no_insert BEFORE INSERT ON verger_audit_anchor BEGIN
    SELECT RAISE(ABORT, 'verger_audit_append_only: the audit log has one anchor');
END;

CREATE TRIGGER verger_audit_head_forward BEFORE UPDATE ON verger_audit_head
WHEN NEW.id <= OLD.id OR NEW.hash IS NOT (SELECT hash FROM verger_audit WHERE id = NEW.id) BEGIN
    SELECT RAISE(ABORT, 'verger_audit_append_only: the head of the audit log moves forward only, onto one of its rows');
END;
CREATE TRIGGER verger_audit_head_no_delete BEFORE DELETE ON verger_audit_head BEGIN
    SELECT RAISE(ABORT, 'verger_audit_append_only: the head of the audit log cannot be deleted');
END;
CREATE TRIGGER verger_audit_head_no_insert BEFORE INSERT ON verger_audit_head BEGIN
    SELECT RAISE(ABORT, 'verger_audit_append_only: the audit log has one head');
END;
