//! Which rows are moved, and where they go.

/// What is copied: the table here, its columns there, and the query that reads them there.
pub(super) const TABLES: &[Table] = &[
    Table {
        name: "jobs",
        columns: "id, worker, queue, priority, state, args, args_version, tenant_aware, due_at, attempt, max_attempts, snoozes, token, \
            lease_until, created_at, attempted_at, finished_at, result, errors, worker_version, worker_digest, schedule, slot, missed, \
            slot_after, zone, progress_done, progress_total, unique_key, unique_until, traceparent, tags, meta",
        // Whoever performs one now is nobody there, so it is taken back at once.
        query: "SELECT id, worker, queue, priority, state, args, args_version, tenant_aware, due_at, attempt, max_attempts, snoozes, token, \
            CASE state WHEN 'executing' THEN lease_until END, created_at, attempted_at, finished_at, result, coalesce(errors, '[]'), \
            worker_version, worker_digest, schedule, slot, missed, slot_after, zone, progress_done, progress_total, unique_key, unique_until, \
            traceparent, tags, meta FROM verger_jobs ORDER BY id",
        jsonb: &[18, 31],
    },
    Table {
        name: "queues",
        columns: "name, paused, updated_at",
        query: "SELECT name, paused, updated_at FROM verger_queues ORDER BY name",
        jsonb: &[],
    },
    Table {
        name: "schedules",
        columns: "name, expression, timezone, worker, args, args_version, queue, priority, max_attempts, missed, overlap, deadline_ms, jitter_ms, \
            paused, anchor, next_fire_at, last_slot, registered_by, updated_at",
        query: "SELECT name, expression, timezone, worker, args, args_version, queue, priority, max_attempts, missed, overlap, deadline_ms, \
            jitter_ms, paused, anchor, next_fire_at, last_slot, registered_by, updated_at \
            FROM verger_schedules LEFT JOIN verger_registrations ON schedule = name ORDER BY name",
        jsonb: &[],
    },
    Table {
        name: "fires",
        columns: "schedule, slot, fired_at, outcome, reason, missed, job",
        query: "SELECT schedule, slot, fired_at, outcome, reason, missed, job FROM verger_fires ORDER BY schedule, slot",
        jsonb: &[],
    },
    Table {
        name: "logs",
        columns: "job, attempt, at, dropped, lines",
        query: "SELECT job, attempt, at, dropped, lines FROM verger_logs ORDER BY job, attempt",
        jsonb: &[],
    },
    Table {
        name: "audit",
        columns: "lane, id, seq, occurred_at, action, outcome, organization_id, actor_id, effective_user_id, impersonating_from, worker, \
            worker_version, job, attempt, subject_type, subject_id, before, after, metadata, hash",
        query: "SELECT 1, id, id, occurred_at, action, outcome, organization_id, actor_id, effective_user_id, impersonating_from, worker, \
            worker_version, job, attempt, subject_type, subject_id, before, after, metadata, hash FROM verger_audit ORDER BY id",
        jsonb: &[],
    },
    Table {
        name: "audit_lanes",
        columns: "lane, seq, hash, anchor_seq, anchor_hash",
        query: "SELECT 1, h.id, h.hash, a.id, a.hash FROM verger_audit_head AS h, verger_audit_anchor AS a WHERE h.id > 0",
        jsonb: &[],
    },
];

pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) columns: &'static str,
    pub(super) query: &'static str,
    /// The places of the columns of the type `jsonb`: `errors` and `tags`.
    pub(super) jsonb: &'static [usize],
}
