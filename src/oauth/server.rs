//! An authorization server: its endpoints and capabilities.

use std::fmt;

use url::Url;

use super::{Endpoint, Metadata, Purpose};

/// An authorization server: the configured values, and where there are none, those of its metadata.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Server {
    /// Its issuer identifier (RFC 8414 §2).
    pub issuer: Option<String>,
    /// The introspection endpoint (RFC 7662 §2), with one address or more.
    pub introspection: Vec<Endpoint>,
    /// The token endpoint, where tokens are exchanged and obtained (RFC 6749 §3.2).
    pub token: Option<Endpoint>,
    /// The URL of its keys (RFC 7517 §5).
    pub jwks: Option<Endpoint>,
    /// The client authentication methods of the introspection endpoint; `None` when it does not list them.
    pub introspection_auth_methods: Option<Vec<String>>,
    /// The client authentication methods of the token endpoint; `None` when it does not list them.
    pub token_auth_methods: Option<Vec<String>>,
    /// The signing algorithms of introspection responses (RFC 9701 §7); `None` when it does not list them.
    pub introspection_signing_algorithms: Option<Vec<String>>,
    /// The supported grants; `None` when it does not list them.
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
    /// All known endpoints, and the issuer as the place of its metadata.
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

    /// Adds metadata. Configured values take precedence over the metadata.
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
