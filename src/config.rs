//! What can be set.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::token::Fingerprint;

/// A secret: wiped when dropped, and never printed.
#[derive(Clone, Default)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a secret over.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(Zeroizing::new(text.into()))
    }

    /// The secret itself. Whoever calls this answers for where it goes.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// How the client authenticates to the authorization server (RFC 6749 §2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClientAuth {
    /// `client_secret_basic`.
    ClientSecretBasic,
    /// `client_secret_post`.
    ClientSecretPost,
    /// `bearer`: a static bearer token (RFC 7662 §2.1).
    Bearer,
    /// `none`.
    None,
}

/// The shape in which the authorization server hands over the JWT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Dialect {
    /// The body of the answer is the JWT.
    Jwt,
    /// An RFC 7662 response that carries the JWT in a claim.
    Json,
    /// Either of the two.
    #[default]
    Auto,
}

/// What is honoured of the answer's `Cache-Control` (RFC 9111 §5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum CacheControl {
    /// `max-age` caps the time to live; everything else is ignored.
    #[default]
    MaxAge,
    /// Everything.
    Strict,
    /// Nothing.
    Ignore,
}

/// What can be set of a provider: plain data, checked by [`Config::build`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// The provider's name, for messages.
    pub name: String,
    /// Where tokens are introspected (RFC 7662 §2): an `http` or `https` URL.
    pub introspection_endpoint: Option<String>,
    /// Our client identifier at the authorization server.
    pub client_id: Option<String>,
    /// Our client secret.
    pub client_secret: Option<Secret>,
    /// A file that holds our client secret; one trailing newline is stripped.
    pub client_secret_file: Option<PathBuf>,
    /// The static bearer token of [`ClientAuth::Bearer`].
    pub bearer_token: Option<Secret>,
    /// A file that holds the static bearer token; one trailing newline is stripped.
    pub bearer_token_file: Option<PathBuf>,
    /// How we authenticate; unset: by what is set.
    pub client_auth: Option<ClientAuth>,
    /// How the server answers.
    pub dialect: Dialect,
    /// The claims that may hold the JWT, in order of preference.
    pub jwt_claim: Option<String>,
    /// The whole time that one resolution may take.
    pub timeout: Duration,
    /// The time that one connection may take.
    pub connect_timeout: Duration,
    /// How often a failed call is repeated.
    pub retries: u32,
    /// How many calls may be under way at once.
    pub max_concurrent: usize,
    /// How many requests may wait at once.
    pub max_waiting: usize,
    /// The largest answer that is read, in bytes.
    pub max_response_size: usize,
    /// How much memory verdicts may take, in bytes.
    pub cache_size: usize,
    /// How many verdicts are remembered.
    pub cache_entries: usize,
    /// How long an active verdict is remembered at most.
    pub cache_ttl: Duration,
    /// How long an inactive verdict is remembered at most.
    pub cache_inactive_ttl: Duration,
    /// What is honoured of `Cache-Control`.
    pub cache_control: CacheControl,
    /// A PEM file of certificate authorities to trust instead of the system's.
    pub ssl_trusted_certificate: Option<PathBuf>,
    /// Whether the server's certificate is verified.
    pub ssl_verify: bool,
}

/// A setting that cannot be used: names the key, the value, and the mend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError(pub(crate) String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

/// A checked configuration: one authorization server with how we authenticate to it and how it answers. Plain
/// data that may be shared and forked; every file that it needs has been read.
pub struct Provider {
    pub(crate) name: String,
    pub(crate) endpoint: url::Url,
    /// The value of the `Authorization` header of our calls, marked sensitive.
    pub(crate) authorization: Option<http::HeaderValue>,
    /// Form parameters that authenticate us, already percent-encoded (`&client_id=…`), or empty.
    pub(crate) form_credentials: Secret,
    pub(crate) dialect: Dialect,
    pub(crate) jwt_claims: Vec<String>,
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
    /// The trusted certificate authorities, as PEM; `None` for the system's.
    pub(crate) trusted_certificates: Option<Vec<u8>>,
    pub(crate) ssl_verify: bool,
    pub(crate) fingerprint: Fingerprint,
    pub(crate) warnings: Vec<String>,
}

impl Config {
    /// A configuration with every default.
    pub fn new(name: impl Into<String>) -> Self {
        Config {
            name: name.into(),
            ..todo!()
        }
    }

    /// Every key that [`Config::set`] knows.
    pub fn keys() -> &'static [&'static str] {
        todo!()
    }

    /// Sets a key by name; the value is written as nginx writes it (`5s`, `10m`, `on`).
    ///
    /// # Errors
    /// [`ConfigError`] when there is no such key or the value is not one of it.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        let _ = (key, value);
        todo!()
    }

    /// Checks everything and reads the files. Starts no thread and opens no socket, so that a root master can
    /// do it before it forks.
    ///
    /// # Errors
    /// [`ConfigError`] for what is missing, contradictory or cannot be read.
    pub fn build(&self) -> Result<Arc<Provider>, ConfigError> {
        todo!()
    }
}

impl Provider {
    /// The provider's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole time that one resolution may take.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// What an operator should know although it is allowed: certificates that are not verified, secrets that
    /// travel in clear.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}
