//! What can be set.
//!
//! A [`Config`] is plain data with one field per key. nginx, C and Python set keys by name ([`Config::set`]), Rust
//! may set the fields; either way [`Config::build`] checks the whole and makes a [`Provider`] of it, which
//! cannot be wrong any more. Neither starts a thread or opens a socket, so that a root master may do both before
//! it forks; `build` does read the files that are named.
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
mod keys;
mod transport;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::jwt::Algorithm;
use crate::oauth::{ClientAuthenticator, Endpoint, Purpose, Server};
use crate::token::{Fingerprint, Keys, Token, TokenId};

pub use crate::oauth::{ClientAuth, HostEndpoint};
pub use crate::secret::Secret;
pub use crate::values::time;
pub(crate) use acquisition::{JwtAcquisition, Minting};
pub(crate) use credential_file::CredentialFile;
pub(crate) use transport::Proxy;

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
    /// A signed introspection response (RFC 9701).
    Signed,
    /// The token is exchanged for a JWT (RFC 8693).
    Exchange,
    /// An RFC 7662 response without a JWT: the gateway mints one.
    Mint,
}

impl Dialect {
    /// The word in the configuration and in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Dialect::Jwt => "jwt",
            Dialect::Json => "json",
            Dialect::Auto => "auto",
            Dialect::Signed => "signed",
            Dialect::Exchange => "exchange",
            Dialect::Mint => "mint",
        }
    }
}

/// What goes upstream of a signed introspection response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Forward {
    /// The response as it came. It is no access token (RFC 9701 §5): APIs must know what they get.
    Signed,
    /// A JWT that the gateway mints of it.
    #[default]
    Mint,
}

impl Forward {
    /// The word in the configuration and in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Forward::Signed => "signed",
            Forward::Mint => "mint",
        }
    }
}

/// What a token is exchanged for (RFC 8693 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum TokenType {
    /// `urn:ietf:params:oauth:token-type:jwt`
    #[default]
    Jwt,
    /// `urn:ietf:params:oauth:token-type:access_token`, which must be a JWT all the same.
    AccessToken,
}

impl TokenType {
    /// The word in the configuration and in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            TokenType::Jwt => "jwt",
            TokenType::AccessToken => "access_token",
        }
    }
}

/// Which tokens are accepted where the authorization server hands over no JWT that was issued for APIs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum TokenKind {
    /// One of which the answer says that it is an access token.
    #[default]
    AccessToken,
    /// Any of which the answer does not say that it is another.
    Any,
}

impl TokenKind {
    /// The word in the configuration and in messages.
    pub fn as_str(self) -> &'static str {
        match self {
            TokenKind::AccessToken => "access_token",
            TokenKind::Any => "any",
        }
    }
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

/// The versions of TLS that may be spoken with the authorization server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum SslProtocols {
    /// `TLSv1.2` (RFC 5246) alone.
    Tls12,
    /// `TLSv1.3` (RFC 8446) alone.
    Tls13,
    /// Either: 1.3 where the server speaks it.
    #[default]
    Both,
}

/// What can be set of a provider: plain data, checked by [`Config::build`].
#[derive(Clone)]
#[non_exhaustive]
pub struct Config {
    /// The provider's name, for messages.
    pub name: String,
    /// The server's issuer identifier (RFC 8414 §2): a URL from which its metadata is found, which says what is not set
    /// here.
    pub issuer: Option<String>,
    /// Where tokens are obtained and exchanged (RFC 6749 §3.2).
    pub token_endpoint: Option<String>,
    /// Where the server publishes its keys (RFC 7517 §5).
    pub jwks_uri: Option<String>,
    /// Where tokens are introspected (RFC 7662 §2): an `http` or `https` URL, or `unix:/path/of.sock:/introspect`.
    /// Several, separated by spaces, are one authorization server at several addresses, asked in order of health.
    pub introspection_endpoint: Option<String>,
    /// Where the host introspects tokens for us, if it makes the calls ([`crate::ClientOptions::calls`]). No key sets it,
    /// and where it is set there are no endpoints and no credentials of our own.
    pub host_endpoint: Option<HostEndpoint>,
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
    /// A PEM file that holds our private key.
    pub private_key: Option<PathBuf>,
    /// The `kid` by which the server knows it; unset: its thumbprint (RFC 7638).
    pub private_key_id: Option<String>,
    /// The algorithm that it signs with; unset: RS256 with an RSA key, and the only one with any other.
    pub private_key_alg: Option<Algorithm>,
    /// What our assertions are for (`aud`); unset: the server's issuer identifier if that is known, else the endpoint.
    pub assertion_audience: Option<String>,
    /// The scope of the access token of [`ClientAuth::ClientCredentials`].
    pub client_credentials_scope: Option<String>,
    /// How we authenticate; unset: by what is set, and by what the server's metadata lists.
    pub client_auth: Option<ClientAuth>,
    /// How the server answers.
    pub dialect: Dialect,
    /// The claims that may hold the JWT, in order of preference, separated by spaces; unset: `jwt`, then
    /// `phantom_token`.
    pub jwt_claim: Option<String>,
    /// What goes upstream with [`Dialect::Signed`]; unset: [`Forward::Mint`].
    pub forward: Option<Forward>,
    /// Whether a JWT that the server hands over must verify against its keys (it need not; a signed response must in any
    /// case).
    pub verify: bool,
    /// The audiences of which such a JWT must name one, or with [`Dialect::Mint`] and [`Dialect::Signed`] the answer,
    /// separated by spaces; unset: any, or none.
    pub verify_audience: Option<String>,
    /// Which tokens [`Dialect::Mint`] and [`Dialect::Signed`] accept; unset: [`TokenKind::AccessToken`].
    pub token_type: Option<TokenKind>,
    /// PEM files of private keys: the first one signs what is minted, and all are published.
    pub mint_key: Vec<PathBuf>,
    /// What RSA keys sign with; unset: RS256. Any other key has but one algorithm.
    pub mint_alg: Option<Algorithm>,
    /// The issuer of what is minted (`iss`).
    pub mint_issuer: Option<String>,
    /// For how long what is minted is valid at most (5 minutes); it ends with the token in any case.
    pub mint_ttl: Option<Duration>,
    /// The claims of the introspection response that are minted, separated by spaces; unset: all.
    pub mint_claims: Option<String>,
    /// The claims of it that are not.
    pub mint_claims_except: Option<String>,
    /// Whom the JWT is for that a token is exchanged for, separated by spaces (RFC 8693 §2.1).
    pub exchange_audience: Option<String>,
    /// Where it is to be used: absolute URIs, separated by spaces.
    pub exchange_resource: Option<String>,
    /// Its scope.
    pub exchange_scope: Option<String>,
    /// Of what type it is asked to be; unset: [`TokenType::Jwt`].
    pub exchange_token_type: Option<TokenType>,
    /// Whether a token is introspected before it is exchanged, to know whether it is bound to a key of its sender; unset:
    /// unless the server's metadata says that it binds none.
    pub exchange_introspect: Option<bool>,
    /// The whole time that one resolution may take (5 s).
    pub timeout: Duration,
    /// The time that one connection may take (2 s).
    pub connect_timeout: Duration,
    /// How often a failed call is repeated: 0 to 3 (1).
    pub retries: u32,
    /// How many calls may be under way at once (256).
    pub max_concurrent: usize,
    /// How many requests may wait at once (16384).
    pub max_waiting: usize,
    /// The largest answer that is read, in bytes: 1k to 16m (64k).
    pub max_response_size: usize,
    /// How much memory verdicts may take, in bytes (64m); 0: nothing is remembered.
    pub cache_size: usize,
    /// How many verdicts are remembered (200000); 0: none.
    pub cache_entries: usize,
    /// How long an active verdict is remembered at most (60 s); 0: not at all.
    pub cache_ttl: Duration,
    /// How long an inactive verdict is remembered at most (10 s); 0: not at all.
    pub cache_inactive_ttl: Duration,
    /// What is honoured of `Cache-Control`.
    pub cache_control: CacheControl,
    /// A hit in the last part of an entry's life, in percent of it, starts asking anew in the background (0: never).
    pub refresh_ahead: u32,
    /// For how long an active verdict whose time is over is served when the authorization server can't be asked (0:
    /// never). Its `exp` ends it in any case.
    pub stale_if_error: Duration,
    /// After how many failures in a row calls to the authorization server stop for a while (5); 0: they never do.
    pub max_fails: u32,
    /// For how long they stop the first time (1 s); it doubles from time to time, up to a minute.
    pub fail_timeout: Duration,
    /// A PEM file of certificate authorities to trust instead of the system's.
    pub ssl_trusted_certificate: Option<PathBuf>,
    /// Whether the server's certificate is verified (it is).
    pub ssl_verify: bool,
    /// A PEM file of the certificate that we show who asks for one (mutual TLS, RFC 8705), then of those between it and
    /// its authority.
    pub ssl_certificate: Option<PathBuf>,
    /// A PEM file of its private key.
    pub ssl_certificate_key: Option<PathBuf>,
    /// The name that the server's certificate must be for, and that it is told (SNI, RFC 6066 §3), instead of the one in
    /// its URL.
    pub ssl_name: Option<String>,
    /// Which versions of TLS may be spoken (1.2 and 1.3).
    pub ssl_protocols: SslProtocols,
    /// An `http` or `https` URL of a forward proxy through which all calls go but those to Unix sockets; it may hold a
    /// user and a password.
    pub proxy: Option<Secret>,
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
    /// What is configured of the authorization server.
    pub(crate) server: Server,
    /// Who we are to it, and how we prove it.
    pub(crate) credentials: ClientAuthenticator,
    /// The file of its credential, if it came from one.
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
    /// The trusted certificate authorities, as PEM; `None` for the system's.
    pub(crate) trusted_certificates: Option<Vec<u8>>,
    pub(crate) ssl_verify: bool,
    /// Our certificates and their key, as PEM.
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
    /// A configuration with every default.
    pub fn new(name: impl Into<String>) -> Self {
        Config {
            name: name.into(),
            issuer: None,
            token_endpoint: None,
            jwks_uri: None,
            introspection_endpoint: None,
            host_endpoint: None,
            client_id: None,
            client_secret: None,
            client_secret_file: None,
            bearer_token: None,
            bearer_token_file: None,
            private_key: None,
            private_key_id: None,
            private_key_alg: None,
            assertion_audience: None,
            client_credentials_scope: None,
            client_auth: None,
            dialect: Dialect::Auto,
            jwt_claim: None,
            forward: None,
            verify: false,
            verify_audience: None,
            token_type: None,
            mint_key: Vec::new(),
            mint_alg: None,
            mint_issuer: None,
            mint_ttl: None,
            mint_claims: None,
            mint_claims_except: None,
            exchange_audience: None,
            exchange_resource: None,
            exchange_scope: None,
            exchange_token_type: None,
            exchange_introspect: None,
            timeout: Duration::from_secs(5),
            connect_timeout: CONNECT_TIMEOUT,
            retries: 1,
            max_concurrent: 256,
            max_waiting: 16_384,
            max_response_size: 64 << 10,
            cache_size: 64 << 20,
            cache_entries: 200_000,
            cache_ttl: Duration::from_secs(60),
            cache_inactive_ttl: Duration::from_secs(10),
            cache_control: CacheControl::MaxAge,
            refresh_ahead: 0,
            stale_if_error: Duration::ZERO,
            max_fails: 5,
            fail_timeout: Duration::from_secs(1),
            ssl_trusted_certificate: None,
            ssl_verify: true,
            ssl_certificate: None,
            ssl_certificate_key: None,
            ssl_name: None,
            ssl_protocols: SslProtocols::Both,
            proxy: None,
        }
    }

    /// Every key that [`Config::set`] knows.
    pub fn keys() -> &'static [&'static str] {
        &keys::NAMES
    }

    /// Sets a key by name; the value is written as nginx writes it (`5s`, `10m`, `on`). A key that is refused
    /// keeps the value it had.
    ///
    /// # Errors
    /// [`ConfigError`] when there is no such key or the value is not one of it.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        keys::set(self, key, value)
    }

    /// Checks everything and reads the files. Starts no thread and opens no socket, so that a root master can
    /// do it before it forks.
    ///
    /// # Errors
    /// [`ConfigError`] for what is missing, contradictory or cannot be read.
    pub fn build(&self) -> Result<Arc<Provider>, ConfigError> {
        keys::check(self)?;
        build::build(self).map(Arc::new)
    }

    /// Refuses a key, with its value where that may be shown (else empty).
    fn refuse(&self, key: &str, value: &str, refusal: &str) -> ConfigError {
        let space = if value.is_empty() { "" } else { " " };
        ConfigError(format!(
            "provider {:?}: {key}{space}{value} {refusal}",
            self.name
        ))
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No endpoint has been checked: it may hold a password, or a key in its query.
        let endpoints = |value: &Option<String>| {
            let read = build::endpoints(value.as_deref()?).ok()?;
            Some(shown(&read))
        };
        let proxy = self
            .proxy
            .as_ref()
            .and_then(|proxy| transport::proxy(proxy.expose()).ok())
            .map(|proxy| proxy.shown);
        f.debug_struct("Config")
            .field("name", &self.name)
            .field("issuer", &endpoints(&self.issuer))
            .field("token_endpoint", &endpoints(&self.token_endpoint))
            .field("jwks_uri", &endpoints(&self.jwks_uri))
            .field(
                "introspection_endpoint",
                &endpoints(&self.introspection_endpoint),
            )
            .field("host_endpoint", &self.host_endpoint)
            .field("client_id", &self.client_id)
            .field("client_secret", &self.client_secret)
            .field("client_secret_file", &self.client_secret_file)
            .field("bearer_token", &self.bearer_token)
            .field("bearer_token_file", &self.bearer_token_file)
            .field("private_key", &self.private_key)
            .field("private_key_id", &self.private_key_id)
            .field("private_key_alg", &self.private_key_alg)
            .field("assertion_audience", &self.assertion_audience)
            .field("client_credentials_scope", &self.client_credentials_scope)
            .field("client_auth", &self.client_auth)
            .field("dialect", &self.dialect)
            .field("jwt_claim", &self.jwt_claim)
            .field("forward", &self.forward)
            .field("verify", &self.verify)
            .field("verify_audience", &self.verify_audience)
            .field("token_type", &self.token_type)
            .field("mint_key", &self.mint_key)
            .field("mint_alg", &self.mint_alg)
            .field("mint_issuer", &self.mint_issuer)
            .field("mint_ttl", &self.mint_ttl)
            .field("mint_claims", &self.mint_claims)
            .field("mint_claims_except", &self.mint_claims_except)
            .field("exchange_audience", &self.exchange_audience)
            .field("exchange_resource", &self.exchange_resource)
            .field("exchange_scope", &self.exchange_scope)
            .field("exchange_token_type", &self.exchange_token_type)
            .field("exchange_introspect", &self.exchange_introspect)
            .field("timeout", &self.timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("retries", &self.retries)
            .field("max_concurrent", &self.max_concurrent)
            .field("max_waiting", &self.max_waiting)
            .field("max_response_size", &self.max_response_size)
            .field("cache_size", &self.cache_size)
            .field("cache_entries", &self.cache_entries)
            .field("cache_ttl", &self.cache_ttl)
            .field("cache_inactive_ttl", &self.cache_inactive_ttl)
            .field("cache_control", &self.cache_control)
            .field("refresh_ahead", &self.refresh_ahead)
            .field("stale_if_error", &self.stale_if_error)
            .field("max_fails", &self.max_fails)
            .field("fail_timeout", &self.fail_timeout)
            .field("ssl_trusted_certificate", &self.ssl_trusted_certificate)
            .field("ssl_verify", &self.ssl_verify)
            .field("ssl_certificate", &self.ssl_certificate)
            .field("ssl_certificate_key", &self.ssl_certificate_key)
            .field("ssl_name", &self.ssl_name)
            .field("ssl_protocols", &self.ssl_protocols)
            .field("proxy", &proxy)
            .finish()
    }
}

fn shown(endpoints: &[Endpoint]) -> String {
    let endpoints: Vec<_> = endpoints.iter().map(Endpoint::to_string).collect();
    endpoints.join(" ")
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

    /// The issuer identifier of the authorization server (RFC 8414 §2), exactly as it is set.
    pub fn issuer(&self) -> Option<&str> {
        self.server.issuer.as_deref()
    }

    /// How many bytes each process may remember verdicts in.
    pub fn cache_size(&self) -> usize {
        self.cache_size
    }

    /// What distinguishes its answers from those of others: a shared store keeps them apart by it.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// By what logs name a token of this provider.
    pub fn token_id(&self, token: Token<'_>) -> TokenId {
        self.keys.key(token).id()
    }

    /// What an operator should know although it is allowed: certificates that are not verified, secrets that
    /// travel in clear.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Why what this provider mints can't be told from what `other` mints, which must not be configured beside it; `None`
    /// where it can.
    ///
    /// # Decision: one `mint_issuer`, one authorization server
    ///
    /// Who is meant by a JWT is `iss` and `sub` together (RFC 7519 §4.1.2), and `sub` is unique at one authorization
    /// server only: `alice` of another server would be the same person to every API. That the other server's issuer stood
    /// in a claim of its own would help no API that does not look for it, so two servers need two names, whatever their
    /// keys. The same server may be configured as often as one likes: it is the same if `issuer` is, or where one of the two
    /// does not set that, if they share an `introspection_endpoint`.
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

    /// The keys with which others verify what the gateway mints, as a JWKS (RFC 7517 §5). `None` when it mints nothing.
    pub fn jwks(&self) -> Option<&str> {
        Some(&self.acquisition.minting.as_ref()?.jwks)
    }

    /// Where tokens are asked about.
    pub(crate) fn endpoints<'a>(&self, server: &'a Server) -> &'a [Endpoint] {
        match self.dialect {
            Dialect::Exchange => server.token.as_slice(),
            _ => &server.introspection,
        }
    }

    /// What is at those.
    pub(crate) fn purpose(&self) -> Purpose {
        match self.dialect {
            Dialect::Exchange => Purpose::Token,
            _ => Purpose::Introspection,
        }
    }

    /// How we authenticate there.
    pub(crate) fn client_auth(&self, server: &Server) -> ClientAuth {
        match self.dialect {
            Dialect::Exchange => self.credentials.method_at_token_endpoint(server),
            _ => self.credentials.method_at_introspection(server),
        }
    }

    /// Whether answers are read with the authorization server's keys.
    pub(crate) fn needs_keys(&self) -> bool {
        self.dialect == Dialect::Signed || self.acquisition.verification.is_some()
    }

    /// The provider and where it is, to begin a message with; without the query, which may hold what does not
    /// belong in a log.
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
