//! What the engine and the façade ask of the names and grants of dropped-in workers.

use super::bound_names::{self, KnownVersion, PluginBinding};
use super::consent::GrantRow;
use super::grant_rows;
use crate::store::{Books, StoreContext, StoreError};

impl Books<'_> {
    /// What was decided about dropped-in workers.
    pub(crate) fn grants(&self) -> Result<Vec<GrantRow>, StoreError> {
        grant_rows::grants(self.connection()).doing("read the grants")
    }

    /// The versions of dropped-in workers that are known.
    pub(crate) fn known_versions(&self) -> Result<Vec<KnownVersion>, StoreError> {
        bound_names::known_versions(self.connection()).doing("read the names of the plugins")
    }

    /// Which component the name of a dropped-in worker is bound to.
    pub(crate) fn plugin_binding(&self, name: &str) -> Result<Option<PluginBinding>, StoreError> {
        bound_names::binding(self.connection(), name).doing("read whose a plugin's name is")
    }

    /// Frees a name, and returns whether it was bound.
    pub(crate) fn free_name(&self, name: &str) -> Result<bool, StoreError> {
        bound_names::free_name(self.connection(), name).doing("forget a plugin")
    }
}
