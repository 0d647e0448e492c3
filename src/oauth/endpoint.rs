//! The endpoints of an authorization server.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use strum::IntoStaticStr;
use url::Url;

/// The purpose of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr)]
#[strum(serialize_all = "lowercase")]
pub enum Purpose {
    /// Tokens are introspected there (RFC 7662).
    Introspection,
    /// Tokens are obtained and exchanged there (RFC 6749 §3.2).
    #[strum(serialize = "token endpoint")]
    Token,
    /// Keys are published there (RFC 7517 §5).
    Keys,
    /// The server publishes its metadata there (RFC 8414).
    Metadata,
}

impl Purpose {
    /// The word in messages.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The name of the setting for its URL.
    pub fn key(self) -> &'static str {
        match self {
            Purpose::Introspection => "introspection_endpoint",
            Purpose::Token => "token_endpoint",
            Purpose::Keys => "jwks_uri",
            Purpose::Metadata => "issuer",
        }
    }
}

/// The destination of a call.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The purpose of this endpoint.
    pub purpose: Purpose,
    /// Its URL. For an endpoint at a Unix socket, the URL that is requested over it.
    pub url: Url,
    /// The Unix socket of the endpoint, if there is one.
    pub socket: Option<PathBuf>,
    /// The host's own name for it, if the host makes the calls: the URL has no meaning then.
    pub host: Option<Arc<HostEndpoint>>,
}

impl Endpoint {
    /// An endpoint at a URL.
    pub fn new(purpose: Purpose, url: Url) -> Self {
        Endpoint {
            purpose,
            url,
            socket: None,
            host: None,
        }
    }

    /// The endpoint of a host that introspects tokens for us.
    pub(crate) fn of_host(host: Arc<HostEndpoint>) -> Option<Self> {
        // No call is made to this URL: it is a name that never resolves (RFC 6761 §6.3).
        let url = Url::parse("http://localhost/").ok()?;
        Some(Endpoint {
            host: Some(host),
            ..Endpoint::new(Purpose::Introspection, url)
        })
    }

    /// Text that distinguishes one endpoint from all others.
    pub(crate) fn identity(&self) -> String {
        match (&self.host, &self.socket) {
            (Some(host), _) => format!("host:{}", host.identity),
            (None, Some(path)) => format!("unix:{}:{}", path.display(), self.url),
            (None, None) => self.url.to_string(),
        }
    }
}

impl fmt::Display for Endpoint {
    /// The URL for messages: without the query, which may contain secrets, and without the parts that an endpoint never
    /// has, but which its setting may contain.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(host) = &self.host {
            return f.write_str(&host.shown);
        }
        let mut url = self.url.clone();
        url.set_query(None);
        url.set_fragment(None);
        // A URL from which these can't be removed can't have them.
        let _ = (url.set_username(""), url.set_password(None));
        match &self.socket {
            Some(path) => write!(f, "unix:{}:{}", path.display(), url.path()),
            None => f.write_str(url.as_str()),
        }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The endpoint of a host that introspects tokens in its own way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostEndpoint {
    /// The name in messages.
    pub shown: String,
    /// The identity that distinguishes this endpoint from all others, including those of other configurations: all
    /// cached state about an endpoint is kept under this identity.
    pub identity: String,
}
