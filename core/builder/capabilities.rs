//! The capabilities that come with Verger, as an app switches them on.

use std::path::PathBuf;

use super::Builder;
#[cfg(feature = "http")]
use crate::capability::Http;
#[cfg(feature = "mailer")]
use crate::capability::Mailer;
#[cfg(any(feature = "http", feature = "mailer"))]
use crate::capability::Secret;
use crate::capability::{REMOVE_FILE, Speed, remove_file};

impl Builder {
    /// Registers the capability `remove-file`, by which the built-in worker `evict-cache` removes
    /// the files of a cache. It removes files in this folder and below it, and no others. A path in
    /// the cache's table is relative to the folder, or absolute.
    pub fn cache_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        let folder = folder.into();
        self.capabilities
            .add(REMOVE_FILE.to_string(), Speed::Quick, move |call| remove_file(&folder, call));
        self
    }

    /// Registers a capability for requests to the hosts that `http` lists: see [`Http`].
    #[cfg(feature = "http")]
    pub fn http(mut self, http: Http) -> Self {
        self.capabilities.add_http(http);
        self
    }

    /// Registers the capability `mailer`, which sends mail through this server: see [`Mailer`].
    #[cfg(feature = "mailer")]
    pub fn mailer(mut self, mailer: Mailer) -> Self {
        self.capabilities.add_mailer(mailer);
        self
    }

    /// Gives a value that workers use by its name and never see: see [`Secret`].
    #[cfg(any(feature = "http", feature = "mailer"))]
    pub fn secret(mut self, name: impl Into<String>, secret: Secret) -> Self {
        self.capabilities.secrets.add(name.into(), secret);
        self
    }
}
