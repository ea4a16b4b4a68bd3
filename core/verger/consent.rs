//! What dropped-in workers may do, decided by a person while the app runs.

use serde_json::json;
use verger_worker::AuditEvent;

use super::Verger;
use crate::audit::{Stamp, Who};
use crate::engine;
use crate::error::Error;
use crate::store::{Books, StoreContext};
use crate::worker::{Consent, GrantDecision, GrantRow};

impl Verger {
    /// What a dropped-in worker asks for, in sentences and as data, and what was decided about it.
    /// It is about the version that waits for a decision or, if none waits, the version that runs.
    /// `None` when no such worker is known.
    ///
    /// ```
    /// # let verger = verger::Verger::in_memory().open()?;
    /// if let Some(consent) = verger.consent("acme-rollup")? {
    ///     println!("{consent}");      // what to show to whoever decides
    ///     verger.approve("acme-rollup", "ann@example.com")?;
    /// }
    /// # Ok::<(), verger::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read.
    pub fn consent(&self, worker: &str) -> Result<Option<Consent>, Error> {
        let reading = "read what a plugin asks for";
        let here = self.inner.plugins.here(worker);
        Ok(self.inner.plugins.consent(self.inner.reader().raw(), worker, here).doing(reading)?)
    }

    /// Grants a dropped-in worker all it asks for. It runs from the next attempt on, and jobs that
    /// waited for it are taken up. A later version that asks for no more keeps the grant. One that
    /// asks for more waits for a decision, while this one runs. A version that was rolled back is
    /// taken in again. The decision and who made it are in the table `verger_grants` and in the
    /// audit log.
    ///
    /// # Errors
    /// [`Error::Consent`] when there is nothing to decide: no such worker is known, the app's code
    /// grants it, or nobody is named. [`Error::Store`] when the database cannot be written.
    pub fn approve(&self, worker: &str, who: &str) -> Result<Consent, Error> {
        self.decide(worker, (GrantDecision::Granted, who), None)
    }

    /// As [`approve`](Self::approve), but only for the component with this SHA-256. So a person
    /// approves what they were shown, whatever was dropped in meanwhile.
    ///
    /// # Errors
    /// As [`approve`](Self::approve), and [`Error::Consent`] when another component is there now.
    pub fn approve_digest(&self, worker: &str, sha256: &str, who: &str) -> Result<Consent, Error> {
        self.decide(worker, (GrantDecision::Granted, who), Some(sha256))
    }

    /// Refuses a dropped-in worker what it asks for and does not have yet. The version before goes
    /// on. If there is none, the worker's jobs wait. [`approve`](Self::approve) can change that
    /// later.
    ///
    /// # Errors
    /// As [`approve`](Self::approve), and [`Error::Consent`] when nothing waits for a decision.
    pub fn deny(&self, worker: &str, who: &str) -> Result<Consent, Error> {
        self.decide(worker, (GrantDecision::Denied, who), None)
    }

    /// Takes back all that a dropped-in worker was granted. An attempt that has begun keeps what it
    /// began with. After it the worker's jobs wait.
    ///
    /// # Errors
    /// As [`approve`](Self::approve), and [`Error::Consent`] when nothing was granted to it.
    pub fn revoke(&self, worker: &str, who: &str) -> Result<Consent, Error> {
        self.decide(worker, (GrantDecision::Revoked, who), None)
    }

    /// What was decided about dropped-in workers, by worker. A row that was written by hand and
    /// cannot be used grants nothing, and says what is wrong with it.
    ///
    /// # Errors
    /// [`Error::Store`] when the database cannot be read.
    pub fn grants(&self) -> Result<Vec<GrantRow>, Error> {
        Ok(self.inner.reader().books().grants()?)
    }

    fn decide(
        &self,
        worker: &str,
        (decision, who): (GrantDecision, &str),
        digest: Option<&str>,
    ) -> Result<Consent, Error> {
        let (plugins, now) = (&self.inner.plugins, self.inner.clock.now());
        let digest = digest.map(str::to_ascii_lowercase);
        let here = plugins.here(worker);
        let decide = |books: Books<'_>| {
            let (about, by) = ((worker, here), (decision, who));
            let decided = plugins
                .decide_consent(books.connection(), about, by, digest.as_deref(), now)
                .doing("decide on a plugin")?;
            if let Ok((consent, what)) = &decided {
                let event = AuditEvent::success(match decision {
                    GrantDecision::Granted => "plugin.approved",
                    GrantDecision::Denied => "plugin.denied",
                    GrantDecision::Revoked => "plugin.revoked",
                });
                let event = event.subject("plugin", worker).after(json!({
                    "version": consent.version, "digest": consent.digest, "what": what,
                }));
                let who = Who { actor_id: Some(who.to_string()), ..Who::default() };
                let stamp = Stamp { who, ..Stamp::default() };
                books.append_audit(now, &stamp, &event)?;
            }
            Ok(decided)
        };
        let decided = self.inner.write("decide on a plugin", decide)?;
        if let Err(reason) = decided {
            return Err(Error::Consent { worker: worker.to_string(), reason });
        }
        engine::take_in_plugins(&self.inner)?;
        let consent = self.consent(worker)?;
        consent.ok_or_else(|| Error::Consent {
            worker: worker.to_string(),
            reason: "it was forgotten meanwhile".to_string(),
        })
    }
}
