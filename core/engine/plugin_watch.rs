//! Taking in dropped-in workers while the app runs.
//!
//! The loop looks at the folders once a second, by a few calls to the file system; it opens no
//! file. What has changed is loaded by a thread of its own, which ends when nothing is left to
//! load. So compiling a large component holds up no queue.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use super::shared::Engine;
use crate::event::EventKind;
use crate::plugin_error::PluginError;
use crate::store::StoreError;
use crate::worker::{Front, Patience, PluginInfo, Plugins};

/// How often the loop looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How often the loop looks at a file that has just changed.
const SETTLE_EVERY: Duration = Duration::from_millis(100);

/// When the loop looked last, and whether a thread is loading what it found.
pub(super) struct PluginWatch {
    is_watching: bool,
    looked_at: Option<Instant>,
    is_loading: Arc<AtomicBool>,
    /// Someone has committed since then. It may be another process that decided about a name.
    has_commits: bool,
}

/// While this exists, a thread is loading.
struct Loading(Arc<AtomicBool>);

impl Drop for Loading {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

impl PluginWatch {
    pub(super) fn of(inner: &Engine) -> Self {
        Self {
            is_watching: inner.plugins.is_watching(),
            looked_at: None,
            is_loading: Arc::default(),
            has_commits: false,
        }
    }

    /// Notes that someone has committed something.
    pub(super) fn note_commits(&mut self) {
        self.has_commits = true;
    }

    /// Looks, when it is time to.
    pub(super) fn look(&mut self, inner: &Arc<Engine>, stopping: &Arc<AtomicBool>) {
        let is_time = self.looked_at.is_none_or(|looked_at| looked_at.elapsed() >= LOOK_EVERY);
        if !is_time || self.is_loading.load(Ordering::Acquire) {
            return;
        }
        self.looked_at = Some(Instant::now());
        // The app may add a file at any time.
        self.is_watching = self.is_watching || inner.plugins.is_watching();
        if !self.is_watching {
            return;
        }
        let has_commits = std::mem::take(&mut self.has_commits);
        // What the database cannot tell now it tells at the next commit.
        let is_decided_elsewhere =
            has_commits && has_other_names(inner).is_ok_and(|is_other| is_other);
        if !is_decided_elsewhere && !inner.plugins.has_changed() {
            return;
        }
        self.is_loading.store(true, Ordering::Release);
        let loading = Loading(Arc::clone(&self.is_loading));
        let (plugins, engine) = (Arc::clone(&inner.plugins), Arc::downgrade(inner));
        let stopping = Arc::clone(stopping);
        let thread = std::thread::Builder::new().name("verger-plugins".to_string());
        let started = thread.spawn(move || {
            let _loading = loading;
            load_until_settled(&plugins, &engine, &stopping);
        });
        if let Err(error) = started {
            tracing::error!(%error, "the operating system gave no thread to load plugins; the next look tries again");
        }
    }
}

fn load_until_settled(plugins: &Plugins, engine: &Weak<Engine>, stopping: &AtomicBool) {
    loop {
        // The engine is held only for moments, so that it can close while something is compiled.
        let loaded = refresh(plugins, || engine.upgrade(), Patience::UntilSettled);
        if let Err(error) = loaded {
            tracing::error!(error = %error, cause = ?std::error::Error::source(&error), "plugins could not be taken in; the next look tries again");
            return;
        }
        if stopping.load(Ordering::Relaxed) || !plugins.is_unsettled() {
            return;
        }
        std::thread::sleep(SETTLE_EVERY);
    }
}

/// Takes in what changed, on the caller's thread.
pub(crate) fn take_in_plugins(inner: &Arc<Engine>) -> Result<(), StoreError> {
    refresh(&inner.plugins, || Some(Arc::clone(inner)), Patience::None)
}

/// As [`take_in_plugins`], when a look shows that something changed.
pub(super) fn take_in_changed(inner: &Arc<Engine>) -> Result<(), StoreError> {
    if inner.plugins.is_watching() && (inner.plugins.has_changed() || has_other_names(inner)?) {
        take_in_plugins(inner)?;
    }
    Ok(())
}

/// Tells whoever listens what was taken in and what was refused since then.
fn tell(inner: &Engine, refused: &[PluginError], running: &[PluginInfo]) {
    let (plugins, now) = (&inner.plugins, inner.clock.now());
    let known: Vec<_> = refused.iter().map(ToString::to_string).collect();
    for refusal in plugins.refused() {
        let (plugin, reason) = (refusal.plugin().to_string(), refusal.to_string());
        if !known.contains(&reason) {
            inner.services.hub.tell(now, || EventKind::PluginRefused { plugin, reason });
        }
    }
    for PluginInfo { name: worker, version, digest, waits } in plugins.running() {
        let is_known = |known: &PluginInfo| {
            (&known.name, &known.digest, known.waits) == (&worker, &digest, waits)
        };
        if running.iter().any(is_known) {
            continue;
        }
        match waits {
            true => inner.tell(now, EventKind::PluginAwaitsConsent { worker, version }),
            false => inner.tell(now, EventKind::PluginAdded { worker, version }),
        }
    }
}

fn has_other_names(inner: &Engine) -> Result<bool, StoreError> {
    inner.plugins.has_other_names(&mut Front::Shared(&inner.front))
}

fn refresh(
    plugins: &Plugins,
    engine: impl Fn() -> Option<Arc<Engine>>,
    patience: Patience,
) -> Result<(), StoreError> {
    // One at a time, so that none overwrites another's result with what it read before.
    let _alone = plugins.one_at_a_time();
    let (gathered, _) = plugins.gather(patience);
    if !gathered.is_empty() {
        let Some(inner) = engine() else { return Ok(()) };
        let known = inner.front().books().known_versions()?;
        drop(inner);
        plugins.load(gathered, &known);
    }
    let Some(inner) = engine() else { return Ok(()) };
    inner.file_identity.check()?;
    let (before, running) = (plugins.refused(), plugins.running());
    let mut front = Front::Shared(&inner.front);
    let changed = plugins.take_in(&inner.registry, &mut front, inner.clock.now())?;
    plugins.tell_refused(&before);
    tell(&inner, &before, &running);
    if changed {
        // Jobs that waited for a worker can begin.
        inner.notifier.ring();
    }
    Ok(())
}
