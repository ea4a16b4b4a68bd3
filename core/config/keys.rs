//! Which keys a `verger.toml` may have, and what each takes. The check, the JSON Schema and the
//! guide all go by this list.

/// What a key takes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Text,
    /// A path. A relative one starts at the file's folder.
    Path,
    Flag,
    Integer {
        least: i64,
        most: i64,
    },
    /// `90s`, `2h`.
    Duration,
    /// A duration, or `forever`.
    Keep,
    /// Bytes: a number, or `16MiB`.
    Size,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list of texts.
    Texts,
    /// A list of paths.
    Paths,
    /// A JSON object: a table, or JSON text where it has a null.
    Args,
    /// A table with these keys.
    Table(&'static [Key]),
    /// A table of tables. The user chooses the name of each; its keys are these.
    Named(&'static [Key]),
}

/// A key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// What it means, for the schema.
    pub(super) about: &'static str,
    /// The key that replaced it.
    pub(super) replaced_by: Option<&'static str>,
}

const fn key(name: &'static str, kind: Kind, about: &'static str) -> Key {
    Key { name, kind, about, replaced_by: None }
}

const COUNT: Kind = Kind::Integer { least: 1, most: i64::MAX };

pub(super) const TOP: &[Key] = &[
    key("file", Kind::Path, "The database."),
    Key {
        name: "db",
        kind: Kind::Path,
        about: "The database, by the name of the command's option.",
        replaced_by: Some("file"),
    },
    key("plugins", Kind::Paths, "Folders of workers: every .wasm in them is one."),
    key("built_ins", Kind::Flag, "Whether the built-in workers are there. Default true."),
    key(
        "durability",
        Kind::Choice(&["normal", "full"]),
        "What a commit survives: with `full` a power cut too. Default normal.",
    ),
    key(
        "threads",
        Kind::Integer { least: 1, most: 32 },
        "How many threads may perform jobs, of all queues together. Default 8.",
    ),
    key("lease", Kind::Duration, "How long a claim holds when nothing renews it. Default 2m."),
    key("keep_audit", Kind::Duration, "How long the audit log is kept at least. Default 1d."),
    key(
        "schedule_set",
        Kind::Text,
        "The name of the set these schedules are. Default `verger.toml`.",
    ),
    key(
        "compile_cache",
        Kind::Text,
        "Where compiled workers are kept: `user`, `off`, or a folder. Default user.",
    ),
    key(
        "compile_limit",
        Kind::Duration,
        "How long compiling plugins may take at one open. Default 60s.",
    ),
    key("limits", Kind::Table(LIMITS), "The limits of each worker whose grant sets none."),
    key("retention", Kind::Table(RETENTION), "How long finished jobs are kept."),
    key("backoff", Kind::Table(BACKOFF), "How long to wait before a failed job is tried again."),
    key("workers", Kind::Named(WORKER), "Settings of single workers, by name."),
    key("secrets", Kind::Named(SECRET), "Where values are that workers use and never see."),
    key(
        "capabilities",
        Kind::Table(CAPABILITIES),
        "Functions that come with Verger, switched on for workers that are granted them.",
    ),
    key("grants", Kind::Named(GRANT), "What workers may touch, by name."),
    key("queues", Kind::Named(QUEUE), "Queues, by name."),
    key("schedules", Kind::Named(SCHEDULE), "Schedules, by name."),
];

const SECRET: &[Key] = &[
    key("env", Kind::Text, "The variable of the environment that has it."),
    key("file", Kind::Path, "The file that has it and nothing else."),
    key("hosts", Kind::Texts, "The hosts it may be sent to. Without one, it is for the mailer."),
];

const CAPABILITIES: &[Key] = &[
    key("http", Kind::Table(HTTP), "Requests to the hosts that are listed: `http`."),
    key("mailer", Kind::Table(MAILER), "Mail by this server: `mailer`."),
    key("cache_folder", Kind::Path, "The folder whose files `remove-file` may remove."),
];

const ROOTS: &str =
    "A PEM file with the certificates of the authorities to trust in the place of the public ones.";

const HTTP: &[Key] = &[
    key("allow", Kind::Texts, "Methods and a host: `GET,POST https://api.example.com`."),
    key("allow_private", Kind::Texts, "The same for hosts of this machine or a private network."),
    key("root_certificates", Kind::Path, ROOTS),
    key("timeout", Kind::Duration, "How long one call may last. Default 30s."),
    key("per_minute", PER_MINUTE, "Calls that each worker may make in a minute. Default 60."),
    key("request", Kind::Size, "Bytes of a request. Default 512KiB."),
    key("response", Kind::Size, "Bytes of an answer. Default 512KiB."),
];

const MAILER: &[Key] = &[
    key("server", Kind::Text, "The SMTP server."),
    key("from", Kind::Text, "The address it sends from."),
    key(
        "security",
        Kind::Choice(&["tls", "starttls", "none"]),
        "How it speaks to the server. Default tls.",
    ),
    key("port", Kind::Integer { least: 1, most: 65_535 }, "Its port. Default 465, 587 or 25."),
    key("root_certificates", Kind::Path, ROOTS),
    key("user", Kind::Text, "Who logs in."),
    key("secret", Kind::Text, "The name of the secret that is the password."),
    key("only_to", Kind::Texts, "The domains it may send to. Default all."),
    key("per_minute", PER_MINUTE, "Messages that each worker may send in a minute. Default 60."),
];

const PER_MINUTE: Kind = Kind::Integer { least: 1, most: u32::MAX as i64 };

const WORKER: &[Key] = &[key(
    "backoff",
    Kind::Table(BACKOFF),
    "How long to wait before its failed jobs are tried again.",
)];

const BACKOFF: &[Key] = &[
    key("base", Kind::Duration, "The wait after the first failed attempt. Default 15s."),
    key("max", Kind::Duration, "The longest wait. Default 6h."),
];

const RETENTION: &[Key] = &[
    key("completed", Kind::Keep, "Jobs that completed. Default 7d."),
    key("cancelled", Kind::Keep, "Jobs that were cancelled. Default 7d."),
    key("discarded", Kind::Keep, "Jobs that were discarded. Default 90d."),
    key("fires", Kind::Keep, "Lines of the fire ledger. Default 90d."),
    key("events", Kind::Keep, "Events of jobs and schedules. Default 7d."),
];

const QUEUE: &[Key] = &[
    key(
        "concurrency",
        Kind::Integer { least: 1, most: 32 },
        "How many of its jobs may be performed at a time in one process. Default 1.",
    ),
    key("global", COUNT, "How many of its jobs may be performed at a time in the whole file."),
];

pub(super) const SCHEDULE: &[Key] = &[
    key("cron", Kind::Text, "When: five fields as in crontab(5), six with seconds, or @daily."),
    key("every", Kind::Duration, "When: an interval, in the place of `cron`."),
    key("worker", Kind::Text, "The worker of its jobs."),
    key("args", Kind::Args, "The args of its jobs: a table, or JSON text where one is null."),
    key(
        "args_version",
        Kind::Integer { least: 1, most: u32::MAX as i64 },
        "The version of the worker's args that they were written for. Default the worker's own when the schedule is first stored.",
    ),
    key("organization", Kind::Text, "The organization its jobs are for."),
    key("actor", Kind::Text, "On whose behalf, with `organization`."),
    key(
        "all_organizations",
        Kind::Flag,
        "Its jobs are for all organizations, on behalf of no one.",
    ),
    key("time_zone", Kind::Text, "The IANA name of its time zone. Default UTC."),
    key("queue", Kind::Text, "The queue of its jobs."),
    key("priority", Kind::Integer { least: 0, most: 9 }, "0 first, 9 last. Default 5."),
    key(
        "max_attempts",
        Kind::Integer { least: 1, most: u32::MAX as i64 },
        "How often one of its jobs may be tried.",
    ),
    key("missed", Kind::Text, "What becomes of missed slots: coalesce, skip, or `replay N`."),
    key(
        "overlap",
        Kind::Choice(&["forbid", "allow"]),
        "What becomes of a slot while an earlier job is unfinished. Default forbid.",
    ),
    key("start_deadline", Kind::Duration, "Skip a slot that is found due later than this."),
    key("jitter", Kind::Duration, "Put its jobs off by up to this long. Default 0s."),
];

pub(super) const GRANT: &[Key] = &[
    key("read", Kind::Texts, "Tables it may read; `table:column,column` is these columns alone."),
    key("insert", Kind::Texts, "Tables it may insert into."),
    key("update", Kind::Texts, "Tables it may update; `table:column` is that column alone."),
    key("delete", Kind::Texts, "Tables it may delete from."),
    key("write", Kind::Texts, "Tables on which it has all four verbs."),
    key("as_declared", Kind::Flag, "All that its manifest asks for: for workers you trust."),
    key("tenant_column", Kind::Text, "The column that holds the organization of a row."),
    key("shared", Kind::Texts, "Tables that belong to no organization."),
    key("capabilities", Kind::Texts, "Functions of the app that it may call."),
    key("enqueue", Kind::Texts, "Workers that it may enqueue jobs for, beside itself."),
    key("sha256", Kind::Text, "Only the component with this SHA-256."),
    key("limits", Kind::Table(LIMITS), "How much of the machine it may use."),
];

pub(super) const LIMITS: &[Key] = &[
    key("time", Kind::Duration, "How long an attempt may last. Default 60s."),
    key("write_lock", Kind::Duration, "How long it may hold the write lock. Default 1s."),
    key("memory", Kind::Size, "Linear memory. Default 64MiB."),
    key("sql_memory", Kind::Size, "Memory of its statements. Default 256MiB."),
    key("chunk", Kind::Size, "Values of one chunk of a query. Default 16MiB."),
    key("statements", COUNT, "SQL statements. Default 10,000,000."),
    key("transaction", Kind::Size, "Pages written between two checkpoints. Default 512MiB."),
    key("growth", Kind::Size, "By how much it may make the file larger. Default 1GiB."),
    key("audit_rows", COUNT, "Audit rows. Default 1,000,000."),
    key("audit", Kind::Size, "Bytes of audit rows. Default 256MiB."),
    key("events", COUNT, "Messages published between two checkpoints. Default 10,000."),
    key("event", Kind::Size, "Bytes of messages between two checkpoints. Default 16MiB."),
    key("call", Kind::Size, "Bytes of one call of a capability. Default 1MiB."),
    key("jobs", COUNT, "Jobs it may enqueue, all its checkpoints together. Default 10,000."),
    key(
        "job",
        Kind::Size,
        "Bytes of the jobs it may enqueue, all its checkpoints together. Default 16MiB.",
    ),
    key("state", Kind::Size, "Bytes of state it may keep for one organization. Default 64KiB."),
    key("log_lines", COUNT, "Lines of its log. Default 1,000."),
    key("log", Kind::Size, "Bytes of its log. Default 1MiB."),
];

/// The key of this name in this list.
pub(super) fn find(keys: &'static [Key], name: &str) -> Option<&'static Key> {
    keys.iter().find(|key| key.name == name)
}
