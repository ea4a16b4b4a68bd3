//! What is wrong with the database, as the process that has it open sees it.

use std::path::Path;
use std::sync::Arc;

use super::Verger;
use crate::doctor::{self, Diagnosis, Doctor, Known};
use crate::error::Error;
use crate::plugin_error::PluginError;
use crate::store::StoreContext;

impl Verger {
    /// Looks at the database and says what is wrong with it, and how to mend each: jobs that wait
    /// for nobody, schedules that never fire, a journal that hurts, a log that grows. Nothing is
    /// changed. It reads a file of up to 256 MiB whole, on a connection of its own.
    ///
    /// [`Doctor`](crate::Doctor) does the same for a file that cannot be opened.
    ///
    /// ```
    /// # let verger = verger::Verger::in_memory().without_built_ins().open()?;
    /// assert!(verger.doctor()?.is_well());
    /// # Ok::<(), verger::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Store`] when no connection can be opened.
    pub fn doctor(&self) -> Result<Diagnosis, Error> {
        let connection = self.inner.connector.connect().doing("open a connection")?;
        let (path, now) = (self.inner.connector.location.file(), self.inner.clock.now());
        Ok(doctor::examine_connection(connection.raw(), path, now, &self.known(true)))
    }

    /// A doctor for this file, by this Verger's clock. It knows this Verger's workers and why
    /// plugins were refused. With it a Verger in memory that has an app's plugins can examine a
    /// file that may not open.
    pub fn doctor_of(&self, path: impl AsRef<Path>) -> Doctor {
        Doctor::new(path).clock(Arc::clone(&self.inner.clock)).knowing(self.known(false))
    }

    fn known(&self, is_the_app: bool) -> Known {
        let (waiting, refused): (Vec<_>, Vec<_>) =
            self.refused_plugins().into_iter().partition(PluginError::waits);
        let texts = |reasons: &[PluginError]| reasons.iter().map(ToString::to_string).collect();
        Known {
            workers: self.workers(),
            newest_args: self
                .inner
                .registry
                .snapshot()
                .iter()
                .map(|(name, worker)| (name.clone(), worker.newest_args()))
                .collect(),
            refused: texts(&refused),
            waiting: texts(&waiting),
            withheld: self.withheld().iter().map(ToString::to_string).collect(),
            is_the_app,
        }
    }
}
