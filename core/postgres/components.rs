//! Which components an open takes in, and the roles they need.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::address::Address;
use super::builder::Builder;
use super::guests::{self, Guests, Roles, Wanted};
use super::migrate::{migrate, open_error};
use super::node::Node;
use super::session::Session;
use super::verger::handed_over;
use crate::clock::{Clock as _, SystemClock};
use crate::error::OpenError;
use crate::grant::Grant;
use crate::metrics::Counters;
use crate::plugin_error::PluginError;
use crate::sandbox::{Ahead, CompileCache, Compiler, Plugin, Source};
use crate::store::StoreError;
use crate::worker::{Registered, Registry};

/// Compiling files is bounded. A component of the app's own is not.
const NO_FILES: Duration = Duration::ZERO;

/// The components of one open.
#[derive(Default)]
pub(super) struct Components {
    own: Vec<(String, Vec<u8>)>,
    #[cfg(feature = "builtins")]
    built_in: Vec<&'static str>,
    grants: BTreeMap<String, Grant>,
    secret: Option<Vec<u8>>,
}

impl Builder {
    /// Takes these bytes as a worker. `what` names them in errors. It has nothing until
    /// [`grant`](Self::grant) gives it something, and the role that stands for it has exactly that:
    /// see [`role_grants`](Self::role_grants).
    pub fn component(mut self, what: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        self.components.own.push((what.into(), bytes.into()));
        self
    }

    /// Takes this built-in worker: see [`crate::built_in_components`] for the names. It is granted
    /// what its manifest asks for, with the tables that its args have by default, unless
    /// [`grant`](Self::grant) says otherwise.
    #[cfg(feature = "builtins")]
    pub fn built_in(mut self, name: &'static str) -> Self {
        self.components.built_in.push(name);
        self
    }

    /// Grants a component what it may touch. A table is where the role that opens the database finds
    /// its name.
    pub fn grant(mut self, worker: impl Into<String>, grant: Grant) -> Self {
        self.components.grants.insert(worker.into(), grant);
        self
    }

    /// What the passwords of the components' roles are derived from. All nodes have the same. By
    /// default it is the password in the address.
    pub fn role_secret(mut self, secret: impl Into<Vec<u8>>) -> Self {
        self.components.secret = Some(secret.into());
        self
    }

    /// The SQL that makes the roles of the components, and gives each what its grant says and no
    /// more: roles, grants, and for tenants policies and views. It is for whoever may create roles,
    /// once, and again when a grant changes; it can be run any number of times. Nothing is changed
    /// by this call but Verger's own tables, if they are not there yet.
    ///
    /// # Errors
    /// [`OpenError`] as for [`open`](Self::open); [`OpenError::Roles`] when something is granted
    /// that is not there or cannot be confined.
    pub fn role_grants(&self) -> Result<String, OpenError> {
        let components = &self.components;
        let wanted = components.register(&Registry::default(), &Arc::default())?;
        let address = self.address().map_err(open_error)?;
        handed_over(|| {
            let mut session = Session::new(Arc::new(address.clone()));
            migrate(&mut session, SystemClock.now())?;
            let roles = components.roles(&address, &mut session).map_err(open_error)?;
            match guests::grants(&mut session, &roles, &wanted).map_err(open_error)? {
                (sql, problems) if problems.is_empty() => Ok(sql),
                (_, problems) => Err(OpenError::Roles { problems }),
            }
        })
    }
}

impl Components {
    /// Registers them, and returns what each is to be granted.
    pub(super) fn register(
        &self,
        registry: &Registry,
        counters: &Arc<Counters>,
    ) -> Result<Vec<Wanted>, OpenError> {
        let (counters, cache) = (Arc::clone(counters), CompileCache::default());
        let compiler = Arc::new(Compiler::new(counters, cache, Ahead::default(), NO_FILES));
        let plugin = |source| Arc::new(Plugin::new(source, Arc::clone(&compiler)));
        let mut names = Vec::new();
        for (what, bytes) in &self.own {
            let plugin = plugin(Source::Bytes { name: what.clone(), bytes: bytes.clone() });
            let name = plugin.manifest()?.name.clone();
            let grant = self.grants.get(&name).cloned().unwrap_or_default();
            registry.add(&name, what, Registered::component(plugin, grant))?;
            names.push(name);
        }
        #[cfg(feature = "builtins")]
        for name in &self.built_in {
            let known = crate::sandbox::PREBUILT.iter().find(|(known, _)| known == name);
            let Some(&(name, bytes)) = known else {
                let all: Vec<&str> =
                    crate::sandbox::PREBUILT.iter().map(|(name, _)| *name).collect();
                return Err(no_such_worker("the call of `built_in`", name, &all.join(", ")));
            };
            let grant = self.grants.get(name).cloned();
            let grant = grant
                .unwrap_or_else(|| Grant::as_declared().time_limit(crate::sandbox::BUILT_IN_TIME));
            let built_in = Registered::component(plugin(Source::Embedded { name, bytes }), grant);
            registry.add(name, &format!("the built-in worker `{name}`"), built_in)?;
            names.push(name.to_string());
        }
        if let Some(worker) = self.grants.keys().find(|worker| !names.contains(worker)) {
            return Err(no_such_worker("a grant", worker, &names.join(", ")));
        }
        let wanted = names.iter().filter_map(|name| registry.get(name));
        Ok(wanted.map(|worker| Wanted::of(&worker)).collect::<Result<_, PluginError>>()?)
    }

    /// Refuses roles that have other rights than their workers were granted, and makes what is
    /// missing for the others.
    pub(super) fn let_in(
        &self,
        node: &Node,
        session: &mut Session,
        wanted: &[Wanted],
    ) -> Result<(), OpenError> {
        if wanted.is_empty() {
            return Ok(());
        }
        let roles = self.roles(&node.address, session).map_err(open_error)?;
        let problems = guests::check(session, &roles, wanted).map_err(open_error)?;
        if !problems.is_empty() {
            return Err(OpenError::Roles { problems });
        }
        let guests = Guests::open(session, Arc::clone(&node.address), roles, node.settings.threads)
            .map_err(open_error)?;
        let _ = node.guests.set(guests);
        Ok(())
    }

    fn roles(&self, address: &Address, session: &mut Session) -> Result<Roles, StoreError> {
        let row = session.first("open the database", "SELECT current_database()::text", &[])?;
        let database = row.map_or_else(String::new, |row| row.get(0));
        let given = self.secret.as_deref().or(address.password());
        Ok(Roles::new(database, given.unwrap_or_default().to_vec()))
    }
}

fn no_such_worker(what: &'static str, worker: &str, known: &str) -> OpenError {
    let known = if known.is_empty() { "none" } else { known };
    OpenError::NoSuchWorker { what, worker: worker.to_string(), known: known.to_string() }
}
