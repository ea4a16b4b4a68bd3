//! The components of the built-in workers, which are part of this library.

use std::time::Duration;

/// How long a built-in sweep may last.
pub(crate) const BUILT_IN_TIME: Duration = Duration::from_secs(600);

/// The components, by the names of their workers. `plugins/rebuild` makes them from `plugins/`.
pub(crate) const PREBUILT: [(&str, &[u8]); 8] = [
    ("cleanup-audit", include_bytes!("../../plugins/prebuilt/cleanup-audit.wasm")),
    (
        "cleanup-expired-invitations",
        include_bytes!("../../plugins/prebuilt/cleanup-expired-invitations.wasm"),
    ),
    ("cleanup-tokens", include_bytes!("../../plugins/prebuilt/cleanup-tokens.wasm")),
    ("deliver-email", include_bytes!("../../plugins/prebuilt/deliver-email.wasm")),
    ("evict-cache", include_bytes!("../../plugins/prebuilt/evict-cache.wasm")),
    ("prune-webhook-events", include_bytes!("../../plugins/prebuilt/prune-webhook-events.wasm")),
    ("reconcile-memberships", include_bytes!("../../plugins/prebuilt/reconcile-memberships.wasm")),
    (
        "reconcile-webhook-events",
        include_bytes!("../../plugins/prebuilt/reconcile-webhook-events.wasm"),
    ),
];
