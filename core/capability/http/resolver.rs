//! Names are resolved here, once, so that the connection goes to an address that was checked.

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use super::policy::Policy;
use crate::capability::addresses::is_private;

/// The system's resolver, without the addresses that a host may not have.
#[derive(Debug)]
pub(super) struct CheckedResolver {
    system: DefaultResolver,
    policy: Policy,
}

impl CheckedResolver {
    pub(super) fn new(policy: Policy) -> Self {
        Self { system: DefaultResolver::default(), policy }
    }
}

impl Resolver for CheckedResolver {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.system.resolve(uri, config, timeout)?;
        if self.policy.may_be_private(uri) {
            return Ok(found);
        }
        let mut public = self.empty();
        for address in found.iter().filter(|address| !is_private(address.ip())) {
            public.push(*address);
        }
        if public.is_empty() {
            let host = uri.host().unwrap_or_default();
            let why = format!(
                "the host {host} is this machine or in a private network, which the app does not allow"
            );
            return Err(ureq::Error::Other(why.into()));
        }
        Ok(public)
    }
}
