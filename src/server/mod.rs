//! What is known of an authorization server: where its endpoints are, and what it can do.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `mod.rs` | an endpoint, and a server as it is asked |
//! | `metadata.rs` | what it says of itself (RFC 8414) |
//! | `client_authentication.rs` | who we are to it, and how we prove it |
//! | `access_token.rs` | how we come by an access token of our own |
//!
//! All of it is pure: who fetches what is said, and when, is the resolver's business.

pub(crate) mod access_token;
mod client_authentication;
mod metadata;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use url::Url;

use crate::config::HostEndpoint;

pub(crate) use client_authentication::{Credentials, Proof, ReadAgain, SECRET_ALGORITHM};
pub use metadata::{Metadata, MetadataError, well_known};

/// What an endpoint is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Tokens are introspected there (RFC 7662).
    Introspection,
    /// Tokens are obtained and exchanged there (RFC 6749 §3.2).
    Token,
    /// Keys are published there (RFC 7517 §5).
    Keys,
    /// The server says there what it can do (RFC 8414).
    Metadata,
}

impl Purpose {
    /// The word in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Purpose::Introspection => "introspection",
            Purpose::Token => "token endpoint",
            Purpose::Keys => "keys",
            Purpose::Metadata => "metadata",
        }
    }

    /// The configuration key that says where it is.
    pub fn key(self) -> &'static str {
        match self {
            Purpose::Introspection => "introspection_endpoint",
            Purpose::Token => "token_endpoint",
            Purpose::Keys => "jwks_uri",
            Purpose::Metadata => "issuer",
        }
    }
}

/// Where a call goes to.
#[derive(Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// What it is for.
    pub purpose: Purpose,
    /// Its URL. For one at a Unix socket, what is said over it.
    pub url: Url,
    /// The Unix socket at which it is, if it is at one.
    pub socket: Option<PathBuf>,
    /// The host's own name for it, if the host makes the calls: the URL says nothing then.
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

    /// Where the host introspects tokens for us.
    pub(crate) fn of_host(host: Arc<HostEndpoint>) -> Option<Self> {
        // No call is made to it: it is what stands for no address at all (RFC 6761 §6.3).
        let url = Url::parse("http://localhost/").ok()?;
        Some(Endpoint {
            host: Some(host),
            ..Endpoint::new(Purpose::Introspection, url)
        })
    }

    /// Text that tells one endpoint from all others.
    pub(crate) fn identity(&self) -> String {
        match (&self.host, &self.socket) {
            (Some(host), _) => format!("host:{}", host.identity),
            (None, Some(path)) => format!("unix:{}:{}", path.display(), self.url),
            (None, None) => self.url.to_string(),
        }
    }
}

impl fmt::Display for Endpoint {
    /// For messages: without the query, which may hold what does not belong in a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(host) = &self.host {
            return f.write_str(&host.shown);
        }
        let mut url = self.url.clone();
        url.set_query(None);
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

/// An authorization server as it is asked: what is configured, and where that says nothing, what its metadata says.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Server {
    /// Its issuer identifier (RFC 8414 §2).
    pub issuer: Option<String>,
    /// Where tokens are introspected (RFC 7662 §2), at one address or more.
    pub introspection: Vec<Endpoint>,
    /// Where tokens are exchanged and obtained (RFC 6749 §3.2).
    pub token: Option<Endpoint>,
    /// Where its keys are (RFC 7517 §5).
    pub jwks: Option<Endpoint>,
    /// How a client may authenticate where tokens are introspected; `None` when it does not say.
    pub introspection_auth_methods: Option<Vec<String>>,
    /// How a client may authenticate at the token endpoint; `None` when it does not say.
    pub token_auth_methods: Option<Vec<String>>,
    /// How it signs introspection responses (RFC 9701 §7); `None` when it does not say.
    pub introspection_signing_algorithms: Option<Vec<String>>,
    /// The grants that it knows; `None` when it does not say.
    pub grant_types: Option<Vec<String>>,
    /// Whether it binds access tokens to keys of their senders; `None` when its metadata is not known.
    pub binds_tokens: Option<bool>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("endpoints", &self.all())
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Every endpoint that is known, and the issuer as the place of its metadata.
    pub(crate) fn all(&self) -> Vec<Endpoint> {
        let issuer = self
            .issuer
            .as_deref()
            .and_then(|issuer| Url::parse(issuer).ok());
        self.introspection
            .iter()
            .chain(&self.token)
            .chain(&self.jwks)
            .cloned()
            .chain(issuer.map(|url| Endpoint::new(Purpose::Metadata, url)))
            .collect()
    }

    /// What is configured goes before what the metadata says.
    pub fn with_metadata(mut self, metadata: &Metadata) -> Self {
        let at = |purpose, url: &Option<Url>| url.clone().map(|url| Endpoint::new(purpose, url));
        if self.introspection.is_empty() {
            let introspection = &metadata.introspection_endpoint;
            self.introspection
                .extend(at(Purpose::Introspection, introspection));
        }
        self.token = self
            .token
            .or_else(|| at(Purpose::Token, &metadata.token_endpoint));
        self.jwks = self.jwks.or_else(|| at(Purpose::Keys, &metadata.jwks_uri));
        self.introspection_auth_methods
            .clone_from(&metadata.introspection_endpoint_auth_methods_supported);
        self.token_auth_methods
            .clone_from(&metadata.token_endpoint_auth_methods_supported);
        self.introspection_signing_algorithms
            .clone_from(&metadata.introspection_signing_alg_values_supported);
        self.grant_types.clone_from(&metadata.grant_types_supported);
        self.binds_tokens = Some(metadata.binds_tokens);
        self
    }
}
