-- The domain tables that the built-in workers serve, for an app that has none of its own yet.
--
-- Ids are TEXT, times INTEGER unix milliseconds, always bound by whoever writes: no statement here or in a worker asks SQLite
-- for the time. There are no foreign keys, so that each table can be adopted alone and a sweep pays for no look-up it does not need.
-- Small rows live WITHOUT ROWID: a change by id is one descent of one tree, which makes a sweep up to twice as fast (and SQLite's
-- update hook does not see such tables). A CHECK is a chain of OR, not IN, for the reason the engine's tables give. Each worker has one index, partial and covering, with the organization in it, so that the
-- sweep of a single tenant passes over the others' rows inside the index.

CREATE TABLE organizations (
    id TEXT PRIMARY KEY NOT NULL,
    name TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Invitations into an organization. `cleanup-expired-invitations` deletes those that expired long ago; accepted ones stay for ever.
CREATE TABLE organization_invitations (
    id TEXT PRIMARY KEY NOT NULL,
    organization_id TEXT NOT NULL,
    email TEXT NOT NULL,
    role TEXT NOT NULL DEFAULT 'member',
    invited_by TEXT,                                -- the user; NULL: the system
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    accepted_at INTEGER                             -- NULL: still open, or expired
) STRICT, WITHOUT ROWID;

-- accepted_at, always NULL here, lets the index answer alone.
CREATE INDEX organization_invitations_open ON organization_invitations (expires_at, id, organization_id, accepted_at)
    WHERE accepted_at IS NULL;

-- Who belongs to an organization. `reconcile-memberships` moves what has run out to `expired`; what decides about access is the
-- check at reading, never this column alone.
CREATE TABLE memberships (
    id TEXT PRIMARY KEY NOT NULL,
    organization_id TEXT NOT NULL,
    user_id TEXT NOT NULL,
    role TEXT NOT NULL DEFAULT 'member',
    state TEXT NOT NULL DEFAULT 'active' CHECK (state = 'invited' OR state = 'active' OR state = 'suspended' OR state = 'expired'),
    expires_at INTEGER,                             -- NULL: never
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- An expired membership leaves the index instead of moving in it: half the cost of the sweep, and the index stays small. A query
-- is served when it says `state IN ('active', 'suspended')` in these words.
CREATE INDEX memberships_expiry ON memberships (state, expires_at, id, organization_id)
    WHERE expires_at IS NOT NULL AND state IN ('active', 'suspended');

-- One row a message that was handed to a provider. The status only ever moves forward, a time is set once, `terminal` never goes
-- back to 0, and every change adds 1 to `lock_version`.
CREATE TABLE deliveries (
    id TEXT PRIMARY KEY NOT NULL,
    organization_id TEXT NOT NULL,
    provider TEXT NOT NULL,
    provider_message_id TEXT,                       -- NULL until the provider has named the message
    status TEXT NOT NULL DEFAULT 'queued' CHECK (
        status = 'queued' OR status = 'sent' OR status = 'delivered' OR status = 'opened' OR status = 'clicked' OR status = 'bounced'
        OR status = 'complained' OR status = 'rejected' OR status = 'failed' OR status = 'suppressed'),
    terminal INTEGER NOT NULL DEFAULT 0 CHECK (terminal IN (0, 1)), -- 1: the provider is done with it
    sent_at INTEGER,
    delivered_at INTEGER,
    opened_at INTEGER,
    clicked_at INTEGER,
    bounced_at INTEGER,
    complained_at INTEGER,
    failed_at INTEGER,                              -- failed, rejected or suppressed
    lock_version INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX deliveries_message ON deliveries (organization_id, provider, provider_message_id);

-- What the providers reported, as it came: append-only. An event that arrived before its delivery is an orphan
-- (needs_reconciliation = 1, delivery_id NULL) and stays one: `reconcile-webhook-events` appends a `reconciled` event beside it.
CREATE TABLE webhook_events (
    id TEXT PRIMARY KEY NOT NULL,
    organization_id TEXT NOT NULL,
    delivery_id TEXT,
    type TEXT NOT NULL,                             -- delivered, opened, bounced, ...; reconciled
    provider TEXT NOT NULL,
    payload TEXT NOT NULL DEFAULT '{}',             -- what the provider sent; meant to be JSON
    metadata TEXT NOT NULL DEFAULT '{}',            -- what the app noted at arrival: provider, provider_message_id
    needs_reconciliation INTEGER NOT NULL DEFAULT 0 CHECK (needs_reconciliation IN (0, 1)),
    idempotency_key TEXT,
    -- How taking it in ended, decided before the row is written: `prune-webhook-events` keeps each for another time.
    status TEXT NOT NULL DEFAULT 'succeeded' CHECK (status = 'succeeded' OR status = 'failed' OR status = 'dead'),
    occurred_at INTEGER NOT NULL,                   -- by the provider's clock
    inserted_at INTEGER NOT NULL                    -- by ours
) STRICT;

CREATE UNIQUE INDEX webhook_events_idempotency ON webhook_events (idempotency_key) WHERE idempotency_key IS NOT NULL;

CREATE INDEX webhook_events_orphans ON webhook_events (inserted_at, id, organization_id)
    WHERE needs_reconciliation = 1 AND delivery_id IS NULL;

CREATE INDEX webhook_events_age ON webhook_events (status, inserted_at, id);

-- The one door out of webhook_events, for `prune-webhook-events`: events inserted before `keep_from` may be deleted. Without
-- its row the door is shut. Whoever may write here holds the key: a worker needs a grant for it. `prune-webhook-events` opens it
-- and shuts it in one transaction, so that nobody else finds it open.
CREATE TABLE webhook_events_retention (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    keep_from INTEGER NOT NULL
) STRICT;

CREATE TRIGGER webhook_events_refuse_update BEFORE UPDATE ON webhook_events
BEGIN
    SELECT RAISE(ABORT, 'webhook_events_append_only: an event is never changed; append another one');
END;

-- `INSERT OR REPLACE` deletes without asking a trigger unless PRAGMA recursive_triggers is on: use ON CONFLICT DO NOTHING.
CREATE TRIGGER webhook_events_refuse_delete BEFORE DELETE ON webhook_events
WHEN NOT EXISTS (SELECT 1 FROM webhook_events_retention WHERE OLD.inserted_at < keep_from)
BEGIN
    SELECT RAISE(ABORT, 'webhook_events_append_only: an event is deleted only below webhook_events_retention.keep_from');
END;

-- Session and one-time tokens, hashed. `cleanup-tokens` deletes by context and age; a context it does not know is never deleted.
CREATE TABLE tokens (
    id TEXT PRIMARY KEY NOT NULL,
    user_id TEXT NOT NULL,
    context TEXT NOT NULL,                          -- confirm, reset_password, magic_link, session, api_refresh, ...
    token_hash BLOB NOT NULL UNIQUE,
    sent_to TEXT,
    inserted_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX tokens_age ON tokens (context, inserted_at, id);

-- Mail to be sent. `deliver-email` sends what is due, never again after success, and gives up after max_attempts (`dead`).
CREATE TABLE email_outbox (
    id TEXT PRIMARY KEY NOT NULL,
    organization_id TEXT,                           -- NULL: mail of the system itself
    recipient TEXT NOT NULL,
    subject TEXT NOT NULL,
    body TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'pending' CHECK (status = 'pending' OR status = 'sending' OR status = 'sent' OR status = 'dead'),
    attempts INTEGER NOT NULL DEFAULT 0,
    max_attempts INTEGER NOT NULL DEFAULT 10 CHECK (max_attempts >= 1),
    next_attempt_at INTEGER NOT NULL,               -- not tried before
    last_error TEXT,
    provider_message_id TEXT,
    sent_at INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

CREATE INDEX email_outbox_due ON email_outbox (next_attempt_at, id) WHERE status IN ('pending', 'sending');

-- What the app keeps to have it at hand, and can fetch again. `evict-cache` deletes what was not used for long, and what was not
-- used for longest where it is too much. With a path, the bytes are in that file, and it goes with its last row.
CREATE TABLE cache_entries (
    id TEXT PRIMARY KEY NOT NULL,
    path TEXT,                                      -- NULL: no file
    bytes INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    used_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX cache_entries_use ON cache_entries (used_at, id, bytes, path);

-- Whether another row names the same file.
CREATE INDEX cache_entries_path ON cache_entries (path) WHERE path IS NOT NULL;
