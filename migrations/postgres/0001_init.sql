-- Verger's own tables on PostgreSQL 15 and newer, in a schema of their own. Times are unix milliseconds, always bound from the clock
-- Verger was given: no default and no function here reads the server's.
CREATE SCHEMA verger;

-- Numbered migrations that were applied.
CREATE TABLE verger.migrations (
    number integer PRIMARY KEY,
    name text NOT NULL,
    applied_at bigint NOT NULL
);

-- One durable row a job. Clients of any language enqueue by verger.enqueue(), in their own transaction.
CREATE TABLE verger.jobs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    worker text NOT NULL CONSTRAINT worker_must_be_named CHECK (worker <> ''),
    queue text NOT NULL CONSTRAINT queue_must_have_1_to_128_bytes CHECK (octet_length(queue) BETWEEN 1 AND 128),
    priority smallint NOT NULL CONSTRAINT priority_must_be_0_to_9 CHECK (priority BETWEEN 0 AND 9),
    state text NOT NULL CONSTRAINT state_must_be_one_of_those_documented CHECK (state IN
        ('scheduled', 'available', 'executing', 'retryable', 'completed', 'discarded', 'cancelled')),
    -- The type json keeps the text as it was sent: every digit of a number, and the order of the keys.
    args json NOT NULL CONSTRAINT args_must_be_a_json_object CHECK (json_typeof(args) = 'object'),
    args_version bigint NOT NULL DEFAULT 1 CONSTRAINT args_version_must_be_at_least_1 CHECK (args_version BETWEEN 1 AND 4294967295),
    tenant_aware boolean NOT NULL DEFAULT false,
    due_at bigint NOT NULL CONSTRAINT due_at_must_be_before_the_year_10000 CHECK (due_at < 253402300800000),
    attempt bigint NOT NULL DEFAULT 0 CHECK (attempt BETWEEN 0 AND 4294967295),     -- attempts begun
    max_attempts bigint NOT NULL CONSTRAINT max_attempts_must_be_at_least_1 CHECK (max_attempts BETWEEN 1 AND 4294967295),
    snoozes bigint NOT NULL DEFAULT 0,
    token bigint NOT NULL DEFAULT 0                 -- the fencing token: grows with every claim, and ends with the node's number, so that none is given twice
        CHECK (token BETWEEN 0 AND 4611686018427387904),
    claimed_by bigint,                              -- the number of the node that holds it: see verger.nodes
    lease_until bigint,
    created_at bigint NOT NULL,                     -- 0: whoever wrote the row did not say
    attempted_at bigint,
    finished_at bigint,
    result text,                                    -- JSON
    errors jsonb NOT NULL DEFAULT '[]',             -- the last 20: {attempt, at, code, message}
    worker_version text,
    worker_digest text,
    schedule text,
    slot bigint,
    missed bigint NOT NULL DEFAULT 0,
    slot_after bigint,
    zone text,
    progress_done bigint,
    progress_total bigint,
    unique_key bytea,
    unique_until bigint,
    traceparent text,
    tags jsonb,
    meta json,
    CONSTRAINT errors_must_be_a_json_array CHECK (jsonb_typeof(errors) = 'array'),
    CONSTRAINT tags_must_be_a_json_array CHECK (jsonb_typeof(tags) = 'array'),
    CONSTRAINT meta_must_be_a_json_object CHECK (json_typeof(meta) = 'object'),
    CONSTRAINT an_executing_job_must_have_a_lease CHECK (state <> 'executing' OR lease_until IS NOT NULL),
    CONSTRAINT args_must_have_organization_id_and_actor_id CHECK (NOT tenant_aware
        OR ((args -> 'organization_id') IS NOT NULL AND (args -> 'actor_id') IS NOT NULL))
);

-- What can be claimed, in the order of the claim within the jobs of one worker in one queue: a claim reads a few rows of each such kind,
-- however long the backlog.
CREATE INDEX jobs_available ON verger.jobs (queue, worker, priority, due_at, id) INCLUDE (args_version) WHERE state = 'available';
-- What becomes available at its time.
CREATE INDEX jobs_later ON verger.jobs (due_at) WHERE state IN ('scheduled', 'retryable');
CREATE INDEX jobs_executing ON verger.jobs (queue) WHERE state = 'executing';
CREATE INDEX jobs_finished ON verger.jobs (state, finished_at) WHERE finished_at IS NOT NULL;
CREATE INDEX jobs_of_schedule ON verger.jobs (schedule) WHERE schedule IS NOT NULL AND finished_at IS NULL;
CREATE UNIQUE INDEX jobs_unique ON verger.jobs (unique_key)
    WHERE unique_key IS NOT NULL AND (finished_at IS NULL OR unique_until IS NOT NULL);

-- Who asked to cancel a claim. It is a table of its own, because an update of the job's row would clash with the snapshot of the
-- attempt.
CREATE TABLE verger.cancels (
    job bigint NOT NULL,
    token bigint NOT NULL,
    asked_at bigint NOT NULL,
    PRIMARY KEY (job, token)
);

-- Files whose rows were moved here.
CREATE TABLE verger.moved (
    name bytea PRIMARY KEY,
    moved_at bigint NOT NULL
);

-- The workers that some node has, for verger.enqueue().
CREATE TABLE verger.workers (
    name text PRIMARY KEY,
    args_version bigint NOT NULL,
    required text[] NOT NULL,                       -- the keys that its args must have
    tenant_aware boolean NOT NULL,
    seen_at bigint NOT NULL
);

-- Each session of a node has a number of its own, and holds the advisory lock of that number.
CREATE SEQUENCE verger.nodes AS integer CYCLE;

CREATE TABLE verger.queues (
    name text PRIMARY KEY,
    paused boolean NOT NULL,
    updated_at bigint NOT NULL
);

CREATE TABLE verger.schedules (
    name text PRIMARY KEY,
    expression text NOT NULL,
    timezone text NOT NULL,
    worker text NOT NULL,
    args json NOT NULL CHECK (json_typeof(args) = 'object'),
    args_version bigint NOT NULL,
    queue text NOT NULL,
    priority smallint NOT NULL,
    max_attempts bigint NOT NULL,
    missed text NOT NULL,                           -- coalesce, skip, or `replay N`
    overlap text NOT NULL CHECK (overlap IN ('forbid', 'allow')),
    deadline_ms bigint,
    jitter_ms bigint NOT NULL,
    paused boolean NOT NULL,
    anchor bigint NOT NULL,
    next_fire_at bigint,
    last_slot bigint,
    registered_by text,                             -- the set of the app's code it belongs to; NULL: added at run time
    updated_at bigint NOT NULL
);
CREATE INDEX schedules_due ON verger.schedules (next_fire_at) WHERE next_fire_at IS NOT NULL;

-- The fire ledger: one row a slot, whatever became of it, and whichever node decided it. Its key is what decides each slot once.
CREATE TABLE verger.fires (
    schedule text NOT NULL,
    slot bigint NOT NULL,
    fired_at bigint NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('enqueued', 'coalesced', 'skipped')),
    reason text,
    missed bigint NOT NULL DEFAULT 0,
    job bigint,
    PRIMARY KEY (schedule, slot)
);

-- Events that are kept. In the order of (xid, id), and read up to the oldest transaction that is still open, none is passed over: the
-- ids alone are not in the order of the commits.
CREATE TABLE verger.events (
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    id bigint GENERATED ALWAYS AS IDENTITY,
    at bigint NOT NULL,
    source bigint NOT NULL,                         -- which process wrote it: a number of its own, by chance
    kind text NOT NULL,
    data text NOT NULL,                             -- JSON: the event
    PRIMARY KEY (xid, id)
);

CREATE TABLE verger.logs (
    job bigint NOT NULL,
    attempt bigint NOT NULL,
    at bigint NOT NULL,
    dropped bigint NOT NULL,
    lines text NOT NULL,                            -- JSON: an array of {at, level, text}
    PRIMARY KEY (job, attempt)
);

-- What workers keep between their jobs.
CREATE TABLE verger.state (
    worker text NOT NULL,
    organization_id text,
    key text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('integer', 'real', 'text', 'blob')),
    value bytea NOT NULL,                           -- a number as its digits, a text as UTF-8
    updated_at bigint NOT NULL,
    UNIQUE NULLS NOT DISTINCT (worker, organization_id, key)
);

-- The audit log: append-only, in lanes. Each executor chains its rows to those of its own lane, so that executors do not wait for each
-- other at one row.
CREATE TABLE verger.audit (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    lane integer NOT NULL,
    seq bigint NOT NULL,                            -- within the lane, from 1, without a gap
    occurred_at bigint NOT NULL,
    action text NOT NULL,
    outcome text NOT NULL CHECK (outcome IN ('success', 'failure', 'error')),
    organization_id text,
    actor_id text,
    effective_user_id text,
    impersonating_from text,
    worker text,
    worker_version text,
    job bigint,
    attempt bigint,
    subject_type text,
    subject_id text,
    before text,
    after text,
    metadata text,
    hash bytea NOT NULL,                            -- SHA-256 over the hash before and this row
    UNIQUE (lane, seq)
);

CREATE TABLE verger.audit_lanes (
    lane integer PRIMARY KEY,                       -- from 1, without a gap
    seq bigint NOT NULL,                            -- the newest row
    hash bytea NOT NULL,
    anchor_seq bigint NOT NULL,                     -- the last row that retention took out
    anchor_hash bytea NOT NULL
);

CREATE FUNCTION verger.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'verger_audit_append_only: % of verger.% is refused', lower(TG_OP), TG_TABLE_NAME;
END $$;
CREATE TRIGGER audit_no_update BEFORE UPDATE ON verger.audit FOR EACH ROW EXECUTE FUNCTION verger.refuse();
CREATE TRIGGER audit_no_truncate BEFORE TRUNCATE ON verger.audit EXECUTE FUNCTION verger.refuse();
CREATE TRIGGER lanes_no_delete BEFORE DELETE ON verger.audit_lanes FOR EACH ROW EXECUTE FUNCTION verger.refuse();
CREATE TRIGGER lanes_no_truncate BEFORE TRUNCATE ON verger.audit_lanes EXECUTE FUNCTION verger.refuse();

CREATE FUNCTION verger.audit_keeps() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.seq > (SELECT anchor_seq FROM verger.audit_lanes WHERE lane = OLD.lane) THEN
        RAISE EXCEPTION 'verger_audit_append_only: a row of the audit log cannot be deleted';
    END IF;
    RETURN OLD;
END $$;
CREATE TRIGGER audit_no_delete BEFORE DELETE ON verger.audit FOR EACH ROW EXECUTE FUNCTION verger.audit_keeps();

CREATE FUNCTION verger.lane_forward() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.lane <> OLD.lane OR NEW.seq < OLD.seq OR NEW.anchor_seq < OLD.anchor_seq OR NEW.anchor_seq > NEW.seq
        OR (NEW.seq > OLD.seq AND NEW.hash IS DISTINCT FROM (SELECT hash FROM verger.audit WHERE lane = NEW.lane AND seq = NEW.seq))
        OR (NEW.seq = OLD.seq AND NEW.hash <> OLD.hash)
        OR (NEW.anchor_seq > OLD.anchor_seq
            AND NEW.anchor_hash IS DISTINCT FROM (SELECT hash FROM verger.audit WHERE lane = NEW.lane AND seq = NEW.anchor_seq))
        OR (NEW.anchor_seq = OLD.anchor_seq AND NEW.anchor_hash <> OLD.anchor_hash) THEN
        RAISE EXCEPTION 'verger_audit_append_only: a lane of the audit log moves forward only, onto one of its rows';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER lanes_forward BEFORE UPDATE ON verger.audit_lanes FOR EACH ROW EXECUTE FUNCTION verger.lane_forward();

-- Enqueues a job in the caller's own transaction, from any client:
--     SELECT verger.enqueue('send-mail', json_build_object('message', 17));
-- Returns the id of the job; of the one that is there, for a unique_key that an unfinished job has. A node notices within a second.
-- The app's role needs USAGE on the schema verger, and nothing else.
CREATE FUNCTION verger.enqueue(
    worker text, args json DEFAULT '{}', queue text DEFAULT 'default', priority integer DEFAULT 5, due_at bigint DEFAULT 0,
    max_attempts bigint DEFAULT 20, unique_key bytea DEFAULT NULL
) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    known verger.workers;
    missing text;
    made bigint;
BEGIN
    SELECT * INTO known FROM verger.workers w WHERE w.name = enqueue.worker;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no worker is named `%`', enqueue.worker
            USING HINT = 'Start a node that has it once, or look at the names in verger.workers.';
    END IF;
    IF json_typeof(enqueue.args) <> 'object' THEN
        RAISE EXCEPTION 'the args of `%` must be a JSON object', enqueue.worker;
    END IF;
    SELECT string_agg(key, ', ') INTO missing FROM unnest(known.required) AS key WHERE (enqueue.args -> key) IS NULL;
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'the args of `%` lack %', enqueue.worker, missing;
    END IF;
    LOOP
        INSERT INTO verger.jobs AS j (worker, queue, priority, state, args, args_version, tenant_aware, due_at, max_attempts, created_at,
            unique_key)
        VALUES (enqueue.worker, enqueue.queue, enqueue.priority, CASE WHEN enqueue.due_at > 0 THEN 'scheduled' ELSE 'available' END,
            enqueue.args, known.args_version, known.tenant_aware, enqueue.due_at, enqueue.max_attempts, 0, enqueue.unique_key)
        ON CONFLICT DO NOTHING RETURNING j.id INTO made;
        IF made IS NULL THEN
            SELECT j.id INTO made FROM verger.jobs j
            WHERE j.unique_key = enqueue.unique_key AND (j.finished_at IS NULL OR j.unique_until IS NOT NULL);
        END IF;
        -- It finished between the two statements.
        EXIT WHEN made IS NOT NULL;
    END LOOP;
    RETURN made;
END $$;
