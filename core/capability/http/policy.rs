//! Which hosts may be reached, and by which methods. A pure value: nothing is sent here.

use std::fmt;

use ureq::http::{Method, Uri};

use crate::capability::InvalidCapability;

/// Methods that can be listed.
const METHODS: [Method; 7] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
];

/// Where a request goes: scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Origin {
    secure: bool,
    /// In lower case.
    pub(super) host: String,
    port: u16,
}

impl Origin {
    /// # Errors
    /// In words, for a URL with another scheme than `http` and `https`, without a host, or with a
    /// user's name in it.
    pub(super) fn of(url: &Uri) -> Result<Self, String> {
        let secure = match url.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err("the URL must begin with https:// or http://".to_string()),
        };
        let authority = url.authority().ok_or("the URL has no host")?;
        if authority.as_str().contains('@') {
            return Err("the URL must have no user's name in it: use basic_auth".to_string());
        }
        let host = authority.host().to_ascii_lowercase();
        if host.is_empty() {
            return Err("the URL has no host".to_string());
        }
        let port = match authority.port() {
            Some(port) => port.as_u16(),
            // A colon and no number, or one that is too large.
            None if authority.as_str().len() > authority.host().len() => {
                return Err("the port of the URL is no number from 1 to 65535".to_string());
            }
            None if secure => 443,
            None => 80,
        };
        Ok(Self { secure, host, port })
    }

    pub(super) fn is_secure(&self) -> bool {
        self.secure
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, usual) = if self.secure { ("https", 443) } else { ("http", 80) };
        write!(f, "{scheme}://{}", self.host)?;
        if self.port == usual { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}

/// One host that is listed.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    origin: Origin,
    /// Covers every name below the host, and not the host itself.
    below: bool,
    methods: Vec<Method>,
    private: bool,
}

impl Rule {
    fn is_for(&self, origin: &Origin) -> bool {
        let is_host = match self.below {
            false => origin.host == self.origin.host,
            true => origin
                .host
                .strip_suffix(&self.origin.host)
                .and_then(|below| below.strip_suffix('.'))
                .is_some_and(|below| !below.is_empty()),
        };
        is_host && origin.secure == self.origin.secure && origin.port == self.origin.port
    }

    /// Whether the host may be this machine, or one of a private network.
    pub(super) fn is_private(&self) -> bool {
        self.private
    }
}

/// All that is listed.
#[derive(Debug, Clone, Default)]
pub(super) struct Policy {
    rules: Vec<Rule>,
}

impl Policy {
    pub(super) fn allow<'m>(
        &mut self,
        origin: &str,
        methods: impl IntoIterator<Item = &'m str>,
        private: bool,
    ) -> Result<(), InvalidCapability> {
        let invalid = |reason: &str| InvalidCapability::new(origin, reason);
        let (scheme, rest) = origin
            .split_once("://")
            .ok_or_else(|| invalid("name the scheme, too: https://host"))?;
        let (below, host) = match rest.strip_prefix("*.") {
            Some(host) => (true, host),
            None => (false, rest),
        };
        if host.contains('*') {
            return Err(invalid("a `*` stands for the names below a host, at its beginning"));
        }
        if below && !host.contains('.') {
            return Err(invalid("a `*` must stand before a domain, not before all of them"));
        }
        let url: Uri = format!("{scheme}://{host}")
            .parse()
            .map_err(|_| invalid("it is no scheme, host and port"))?;
        if !matches!(url.path(), "" | "/") || url.query().is_some() || rest.ends_with('/') {
            return Err(invalid("name the host alone, with no path behind it"));
        }
        let origin = Origin::of(&url).map_err(|why| InvalidCapability::new(origin, why))?;
        let mut listed = Vec::new();
        for method in methods {
            let known = METHODS.iter().find(|known| known.as_str() == method);
            listed.push(known.cloned().ok_or_else(|| {
                InvalidCapability::new(
                    method,
                    "the methods are GET, HEAD, POST, PUT, PATCH, DELETE and OPTIONS",
                )
            })?);
        }
        if listed.is_empty() {
            return Err(InvalidCapability::new(origin.to_string(), "list a method with it"));
        }
        self.rules.push(Rule { origin, below, methods: listed, private });
        Ok(())
    }

    /// The rule by which a request may be sent.
    ///
    /// # Errors
    /// In words, naming what is not allowed.
    pub(super) fn check(&self, origin: &Origin, method: &Method) -> Result<&Rule, String> {
        let mut rules = self.rules.iter().filter(|rule| rule.is_for(origin)).peekable();
        if rules.peek().is_none() {
            return Err(format!("the app does not allow requests to {origin}"));
        }
        rules
            .find(|rule| rule.methods.contains(method))
            .ok_or_else(|| format!("the app does not allow {method} requests to {origin}"))
    }

    /// Whether the host of this URL may be this machine, or one of a private network.
    pub(super) fn may_be_private(&self, url: &Uri) -> bool {
        Origin::of(url)
            .is_ok_and(|origin| self.rules.iter().any(|rule| rule.is_for(&origin) && rule.private))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(origin: &str) -> Result<Policy, InvalidCapability> {
        let mut policy = Policy::default();
        policy.allow(origin, ["GET"], false)?;
        Ok(policy)
    }

    #[test]
    fn what_is_listed_is_allowed_and_nothing_beside_it() {
        let cases = [
            ("https://a.com", "https://a.com/x?y#z", true),
            ("https://a.com", "https://A.COM:443/", true),
            ("https://A.com", "https://a.com", true),
            ("https://a.com:443", "https://a.com", true),
            ("https://a.com", "http://a.com", false),
            ("https://a.com", "https://a.com:444", false),
            ("https://a.com", "https://b.a.com", false),
            ("https://a.com", "https://a.com.b.com", false),
            ("https://a.com", "https://a.com.", false),
            ("https://a.com", "https://xa.com", false),
            ("http://a.com:8080", "http://a.com:8080", true),
            ("http://a.com:8080", "http://a.com", false),
            ("https://*.a.com", "https://b.a.com", true),
            ("https://*.a.com", "https://c.b.a.com", true),
            ("https://*.a.com", "https://a.com", false),
            ("https://*.a.com", "https://.a.com", false),
            ("https://*.a.com", "https://ba.com", false),
            ("http://127.0.0.1:1", "http://127.0.0.1:1", true),
            ("http://127.0.0.1:1", "http://127.1:1", false),
            ("http://127.0.0.1:1", "http://2130706433:1", false),
            ("http://[::1]:1", "http://[::1]:1", true),
        ];
        for (rule, url, allowed) in cases {
            let policy = policy(rule).unwrap();
            let origin = Origin::of(&url.parse().unwrap());
            let found = origin.is_ok_and(|origin| policy.check(&origin, &Method::GET).is_ok());
            assert_eq!(found, allowed, "{rule} {url}");
        }
        let policy = policy("https://a.com").unwrap();
        let origin = Origin::of(&"https://a.com".parse().unwrap()).unwrap();
        let refused = policy.check(&origin, &Method::POST).unwrap_err();
        assert_eq!(refused, "the app does not allow POST requests to https://a.com");
    }

    #[test]
    fn what_names_no_host_cannot_be_listed() {
        for origin in [
            "a.com",
            "ftp://a.com",
            "https://",
            "https://a.com/path",
            "https://a.com/",
            "https://a.com?x",
            "https://u:p@a.com",
            "https://*",
            "https://*.com",
            "https://a.*.com",
            "https://a.com:0x50",
            "https://a.com:99999",
            "https://a b.com",
            "file:///etc/passwd",
        ] {
            assert!(policy(origin).is_err(), "{origin}");
        }
        let mut policy = Policy::default();
        assert!(policy.allow("https://a.com", ["get"], false).is_err());
        assert!(policy.allow("https://a.com", ["CONNECT"], false).is_err());
        assert!(policy.allow("https://a.com", [], false).is_err());
    }

    #[test]
    fn a_url_that_hides_its_host_is_refused() {
        for url in ["https://a.com@b.com/", "https://u:p@a.com/", "ftp://a.com/", "/path", "a.com"]
        {
            let parsed: Result<Uri, _> = url.parse();
            assert!(parsed.is_err() || Origin::of(&parsed.unwrap()).is_err(), "{url}");
        }
    }
}
