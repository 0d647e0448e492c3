//! Configuration of a provider.
//!
//! A [`Config`] is plain data with one field per key. nginx, C and Python set keys by name ([`Config::set`]), Rust may
//! set the fields. In both cases [`Config::build`] checks the whole and makes a [`Provider`] of it, which is always
//! valid. Neither function starts a thread or opens a socket, so that a root master process may call both before it
//! forks. `build` reads the files that the settings name.
//!
//! ```
//! use phantom_token::Config;
//!
//! let mut config = Config::new("main");
//! config.set("introspection_endpoint", "https://as.example.com/introspect")?;
//! let refused = config.set("timeout", "5x").unwrap_err();
//! assert_eq!(
//!     refused.to_string(),
//!     "provider \"main\": timeout \"5x\" is not a time: write it as 500ms, 5s or 1m"
//! );
//! # Ok::<(), phantom_token::ConfigError>(())
//! ```

mod acquisition;
mod build;
mod credential_file;
mod rules;
mod settings;
mod transport;
mod url;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use strum::{IntoStaticStr, VariantArray};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::oauth::{ClientAuthenticator, Endpoint, Purpose, Server};
use crate::token::{Fingerprint, Keys, Token, TokenId};

pub use crate::oauth::{ClientAuth, HostEndpoint};
pub use crate::secret::Secret;
pub use crate::values::{NOT_A_SWITCH, NOT_A_TIME, switch, time};
pub(crate) use acquisition::{JwtAcquisition, Minting};
pub(crate) use credential_file::CredentialFile;
pub use rules::SettingType;
pub use settings::{Config, Fingerprint as FingerprintPart, Setting};
pub use transport::Proxy;
pub use url::Issuer;

/// The form in which the authorization server returns the JWT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
#[non_exhaustive]
pub enum Dialect {
    /// The body of the response is the JWT.
    Jwt,
    /// An RFC 7662 response that carries the JWT in a claim.
    Json,
    /// A signed introspection response (RFC 9701).
    Signed,
    /// The token is exchanged for a JWT (RFC 8693).
    Exchange,
    /// An RFC 7662 response without a JWT: the gateway mints one.
    Mint,
    /// Either of the two.
    #[default]
    Auto,
}

impl Dialect {
    /// The name in the configuration and in messages.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The JWT that goes upstream for a signed introspection response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
#[non_exhaustive]
pub enum Forward {
    /// The response, unchanged. It is no access token (RFC 9701 §5): APIs must know what they receive.
    Signed,
    /// A JWT that the gateway mints from the response.
    #[default]
    Mint,
}

impl Forward {
    /// The name in the configuration and in messages.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The type of token that is requested in a token exchange (RFC 8693 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
#[non_exhaustive]
pub enum TokenType {
    /// `urn:ietf:params:oauth:token-type:jwt`
    #[default]
    Jwt,
    /// `urn:ietf:params:oauth:token-type:access_token`. The token must be a JWT with this type too.
    AccessToken,
}

impl TokenType {
    /// The name in the configuration and in messages.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The kind of token that is accepted where the authorization server returns no JWT that was issued for APIs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
#[non_exhaustive]
pub enum TokenKind {
    /// A token that the response identifies as an access token.
    #[default]
    AccessToken,
    /// Any token, unless the response says that it is of another kind.
    Any,
}

impl TokenKind {
    /// The name in the configuration and in messages.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The directives of the response's `Cache-Control` that are honoured (RFC 9111 §5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "kebab-case")]
#[non_exhaustive]
pub enum CacheControl {
    /// `max-age` limits the time to live; all other directives are ignored.
    #[default]
    MaxAge,
    /// All directives.
    Strict,
    /// No directive.
    Ignore,
}

impl CacheControl {
    /// The name in the configuration and in messages.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// The versions of TLS that are allowed with the authorization server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum SslProtocols {
    /// `TLSv1.2` (RFC 5246) alone.
    Tls12,
    /// `TLSv1.3` (RFC 8446) alone.
    Tls13,
    /// Both: 1.3 where the server supports it.
    #[default]
    Both,
}

/// An error about a setting that can't be used: names the key, the value, and how to fix it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct ConfigError(pub(crate) String);

/// A checked configuration: one authorization server, our authentication to it, and the form of its answers. Plain data
/// that may be shared and forked; every file that it needs has been read.
pub struct Provider {
    pub(crate) name: String,
    /// The configured authorization server.
    pub(crate) server: Server,
    /// Our client authentication.
    pub(crate) credentials: ClientAuthenticator,
    /// The file of the credential, if it came from a file.
    pub(crate) credential_file: Option<CredentialFile>,
    pub(crate) dialect: Dialect,
    pub(crate) jwt_claims: Vec<String>,
    pub(crate) acquisition: JwtAcquisition,
    pub(crate) timeout: Duration,
    pub(crate) connect_timeout: Duration,
    pub(crate) retries: u32,
    pub(crate) max_concurrent: usize,
    pub(crate) max_waiting: usize,
    pub(crate) max_response_size: usize,
    pub(crate) cache_size: usize,
    pub(crate) cache_entries: usize,
    pub(crate) cache_ttl: Duration,
    pub(crate) cache_inactive_ttl: Duration,
    pub(crate) cache_control: CacheControl,
    /// In percent.
    pub(crate) refresh_ahead: u32,
    pub(crate) stale_if_error: Duration,
    pub(crate) max_fails: u32,
    pub(crate) fail_timeout: Duration,
    /// The trusted certificate authorities, as PEM; `None` for those of the system.
    pub(crate) trusted_certificates: Option<Vec<u8>>,
    pub(crate) ssl_verify: bool,
    /// Our certificate chain and its key, as PEM.
    pub(crate) client_certificate: Option<Zeroizing<Vec<u8>>>,
    pub(crate) ssl_name: Option<String>,
    pub(crate) ssl_protocols: SslProtocols,
    pub(crate) proxy: Option<Proxy>,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) keys: Keys,
    pub(crate) warnings: Vec<String>,
}

const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

impl Config {
    /// Every key that [`Config::set`] knows.
    pub fn keys() -> &'static [&'static str] {
        &settings::NAMES
    }

    /// The settings, in the order of the docs.
    pub fn settings() -> &'static [Setting] {
        settings::TABLE
    }

    /// Sets a key by name. The value is written as in nginx (`5s`, `10m`, `on`). After an error the key keeps its
    /// value.
    ///
    /// # Errors
    /// [`ConfigError`] when there is no such key, or the value is not valid for it.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        settings::set(self, key, value)
    }

    /// Checks all settings and reads the files. Starts no thread and opens no socket, so that a root master process can
    /// call it before it forks.
    ///
    /// # Errors
    /// [`ConfigError`] for a setting that is missing, contradictory or unreadable.
    pub fn build(&self) -> Result<Arc<Provider>, ConfigError> {
        settings::check(self)?;
        build::build(self).map(Arc::new)
    }

    /// An error about a key, with the value where it may be shown (else empty).
    fn refuse(&self, key: &str, value: &str, refusal: &str) -> ConfigError {
        let space = if value.is_empty() { "" } else { " " };
        ConfigError(format!(
            "provider {:?}: {key}{space}{value} {refusal}",
            self.name
        ))
    }
}

impl Provider {
    /// The provider's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The time limit of one resolution.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The issuer identifier of the authorization server (RFC 8414 §2), exactly as it is set.
    pub fn issuer(&self) -> Option<&str> {
        self.server.issuer.as_deref()
    }

    /// The size of the verdict cache of each process, in bytes.
    pub fn cache_size(&self) -> usize {
        self.cache_size
    }

    /// The fingerprint that separates this provider's answers from those of other providers in a shared store.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// The identifier under which logs name a token of this provider.
    pub fn token_id(&self, token: Token<'_>) -> TokenId {
        self.keys.key(token).id()
    }

    /// Warnings for the operator about allowed but risky settings: certificates that are not verified, secrets that are
    /// sent in clear text.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The reason why JWTs that this provider mints can't be distinguished from those that `other` mints; `None` where
    /// they can. Two providers with such a reason must not be configured together.
    ///
    /// # Decision: one `mint_issuer`, one authorization server
    ///
    /// The subject of a JWT is identified by `iss` and `sub` together (RFC 7519 §4.1.2), and `sub` is unique at one
    /// authorization server only: `alice` of another server would be the same person to every API. The other server's
    /// issuer in a claim of its own would help no API that does not read that claim. So two servers need two names,
    /// whatever their keys. The same server may be configured several times. Two providers have the same server if
    /// `issuer` is the same, or, where one of the two does not set `issuer`, if they share an `introspection_endpoint`.
    pub fn blends_with(&self, other: &Provider) -> Option<String> {
        let (ours, theirs) = (
            self.acquisition.minting.as_ref()?,
            other.acquisition.minting.as_ref()?,
        );
        if ours.issuer != theirs.issuer {
            return None;
        }
        let same = match (&self.server.issuer, &other.server.issuer) {
            (Some(ours), Some(theirs)) => ours == theirs,
            _ => {
                let theirs = &other.server.introspection;
                let mut ours = self.server.introspection.iter();
                ours.any(|endpoint| theirs.contains(endpoint))
            }
        };
        (!same).then(|| {
            format!(
                "provider {:?}: mint_issuer {:?} is that of provider {:?} too, whose authorization server is another: APIs \
                 would take a user of one for the user of the other that has the same sub; give each its own mint_issuer, or, \
                 if it is one authorization server, set the same issuer in both",
                self.name, ours.issuer, other.name
            )
        })
    }

    /// The keys for verifying JWTs that the gateway mints, as a JWKS (RFC 7517 §5). `None` when it mints nothing.
    pub fn jwks(&self) -> Option<&str> {
        Some(&self.acquisition.minting.as_ref()?.jwks)
    }

    /// The endpoints that are called for a token.
    pub(crate) fn endpoints<'a>(&self, server: &'a Server) -> &'a [Endpoint] {
        match self.dialect {
            Dialect::Exchange => server.token.as_slice(),
            _ => &server.introspection,
        }
    }

    /// The purpose of those endpoints.
    pub(crate) fn purpose(&self) -> Purpose {
        match self.dialect {
            Dialect::Exchange => Purpose::Token,
            _ => Purpose::Introspection,
        }
    }

    /// Our client authentication method there.
    pub(crate) fn client_auth(&self, server: &Server) -> ClientAuth {
        match self.dialect {
            Dialect::Exchange => self.credentials.method_at_token_endpoint(server),
            _ => self.credentials.method_at_introspection(server),
        }
    }

    /// Whether answers are verified with the authorization server's keys.
    pub(crate) fn needs_keys(&self) -> bool {
        self.dialect == Dialect::Signed || self.acquisition.verification.is_some()
    }

    /// The provider and the endpoint, as the beginning of a message. The query is left out, because it may hold what
    /// does not belong in a log.
    pub(crate) fn place(&self, endpoint: &Endpoint) -> String {
        format!(
            "provider {:?}: {} at {endpoint}",
            self.name,
            endpoint.purpose.as_str()
        )
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider")
            .field("name", &self.name)
            .field("server", &self.server)
            .field("client_auth", &self.credentials.method(None))
            .field("dialect", &self.dialect)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
