-- The domain tables that the built-in workers serve, for PostgreSQL: those of migrations/reference, with the same names and meaning.
--
-- Ids are texts compared by their bytes (COLLATE "C"), times unix milliseconds. An index that a sweep walks says NULLS FIRST, because
-- its query does: that is SQLite's order.

CREATE TABLE IF NOT EXISTS organizations (
    id text COLLATE "C" PRIMARY KEY,
    name text NOT NULL,
    created_at bigint NOT NULL
);

CREATE TABLE IF NOT EXISTS organization_invitations (
    id text COLLATE "C" PRIMARY KEY,
    organization_id text COLLATE "C" NOT NULL,
    email text NOT NULL,
    role text NOT NULL DEFAULT 'member',
    invited_by text,
    created_at bigint NOT NULL,
    expires_at bigint NOT NULL,
    accepted_at bigint
);
CREATE INDEX IF NOT EXISTS organization_invitations_open
    ON organization_invitations (expires_at NULLS FIRST, id NULLS FIRST, organization_id NULLS FIRST) WHERE accepted_at IS NULL;

CREATE TABLE IF NOT EXISTS memberships (
    id text COLLATE "C" PRIMARY KEY,
    organization_id text COLLATE "C" NOT NULL,
    user_id text NOT NULL,
    role text NOT NULL DEFAULT 'member',
    state text NOT NULL DEFAULT 'active' CHECK (state IN ('invited', 'active', 'suspended', 'expired')),
    expires_at bigint,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL
);
CREATE INDEX IF NOT EXISTS memberships_expiry
    ON memberships (state, expires_at NULLS FIRST, id NULLS FIRST, organization_id NULLS FIRST)
    WHERE expires_at IS NOT NULL AND state IN ('active', 'suspended');

CREATE TABLE IF NOT EXISTS deliveries (
    id text COLLATE "C" PRIMARY KEY,
    organization_id text COLLATE "C" NOT NULL,
    provider text COLLATE "C" NOT NULL,
    provider_message_id text COLLATE "C",
    status text NOT NULL DEFAULT 'queued' CHECK (status IN
        ('queued', 'sent', 'delivered', 'opened', 'clicked', 'bounced', 'complained', 'rejected', 'failed', 'suppressed')),
    terminal bigint NOT NULL DEFAULT 0 CHECK (terminal IN (0, 1)),
    sent_at bigint,
    delivered_at bigint,
    opened_at bigint,
    clicked_at bigint,
    bounced_at bigint,
    complained_at bigint,
    failed_at bigint,
    lock_version bigint NOT NULL DEFAULT 0,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS deliveries_message ON deliveries (organization_id, provider, provider_message_id);

CREATE TABLE IF NOT EXISTS webhook_events (
    id text COLLATE "C" PRIMARY KEY,
    organization_id text COLLATE "C" NOT NULL,
    delivery_id text COLLATE "C",
    type text NOT NULL,
    provider text NOT NULL,
    payload text NOT NULL DEFAULT '{}',
    metadata text NOT NULL DEFAULT '{}',
    needs_reconciliation bigint NOT NULL DEFAULT 0 CHECK (needs_reconciliation IN (0, 1)),
    idempotency_key text COLLATE "C",
    status text NOT NULL DEFAULT 'succeeded' CHECK (status IN ('succeeded', 'failed', 'dead')),
    occurred_at bigint NOT NULL,
    inserted_at bigint NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS webhook_events_idempotency ON webhook_events (idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX IF NOT EXISTS webhook_events_orphans
    ON webhook_events (inserted_at NULLS FIRST, id NULLS FIRST, organization_id NULLS FIRST)
    WHERE needs_reconciliation = 1 AND delivery_id IS NULL;
CREATE INDEX IF NOT EXISTS webhook_events_age ON webhook_events (status, inserted_at NULLS FIRST, id NULLS FIRST);

-- The one door out of webhook_events: events inserted before keep_from may be deleted.
CREATE TABLE IF NOT EXISTS webhook_events_retention (
    id bigint PRIMARY KEY CHECK (id = 1),
    keep_from bigint NOT NULL
);

CREATE OR REPLACE FUNCTION webhook_events_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND EXISTS (SELECT 1 FROM webhook_events_retention WHERE OLD.inserted_at < keep_from) THEN
        RETURN OLD;
    END IF;
    IF TG_OP = 'UPDATE' THEN
        RAISE EXCEPTION 'webhook_events_append_only: an event is never changed; append another one';
    END IF;
    RAISE EXCEPTION 'webhook_events_append_only: an event is deleted only below webhook_events_retention.keep_from';
END $$;
CREATE OR REPLACE TRIGGER webhook_events_append_only BEFORE UPDATE OR DELETE ON webhook_events
    FOR EACH ROW EXECUTE FUNCTION webhook_events_refuse();

CREATE TABLE IF NOT EXISTS tokens (
    id text COLLATE "C" PRIMARY KEY,
    user_id text NOT NULL,
    context text COLLATE "C" NOT NULL,
    token_hash bytea NOT NULL UNIQUE,
    sent_to text,
    inserted_at bigint NOT NULL
);
CREATE INDEX IF NOT EXISTS tokens_age ON tokens (context, inserted_at NULLS FIRST, id NULLS FIRST);

CREATE TABLE IF NOT EXISTS email_outbox (
    id text COLLATE "C" PRIMARY KEY,
    organization_id text COLLATE "C",
    recipient text NOT NULL,
    subject text NOT NULL,
    body text NOT NULL,
    status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'sending', 'sent', 'dead')),
    attempts bigint NOT NULL DEFAULT 0,
    max_attempts bigint NOT NULL DEFAULT 10 CHECK (max_attempts >= 1),
    next_attempt_at bigint NOT NULL,
    last_error text,
    provider_message_id text,
    sent_at bigint,
    created_at bigint NOT NULL,
    updated_at bigint NOT NULL
);
CREATE INDEX IF NOT EXISTS email_outbox_due ON email_outbox (next_attempt_at NULLS FIRST, id NULLS FIRST)
    WHERE status IN ('pending', 'sending');

CREATE TABLE IF NOT EXISTS cache_entries (
    id text COLLATE "C" PRIMARY KEY,
    path text COLLATE "C",
    bytes bigint NOT NULL,
    created_at bigint NOT NULL,
    used_at bigint NOT NULL
);
CREATE INDEX IF NOT EXISTS cache_entries_use ON cache_entries (used_at NULLS FIRST, id NULLS FIRST);
CREATE INDEX IF NOT EXISTS cache_entries_path ON cache_entries (path) WHERE path IS NOT NULL;
