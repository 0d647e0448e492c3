//! The table of settings: every key of a provider, once.
//!
//! The table generates the fields of [`Config`] and their defaults, [`Config::set`], `Debug`, the check of values that
//! were set through fields, the directives of a provider in nginx, the typed settings of the Python package, and the
//! tables in the docs. To add a key, add it here, and use its field.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use strum::VariantArray;

use super::acquisition::{MAX_MINT_KEYS, RSA_ALGORITHMS};
use super::rules::{
    self, Choice, EndpointUrl, EndpointUrls, Few, Hidden, Invalid, IssuerUrl, Number, Path, Paths,
    Percent, ProxyUrl, Rule, ServerName, SettingType, Size, Switch, Text, Time, TlsVersions, Words,
};
use super::transport::Proxy;
use super::url::Issuer;
use super::{
    CacheControl, ClientAuth, ConfigError, Dialect, Forward, SslProtocols, TokenKind, TokenType,
};
use crate::jwt::Algorithm;
use crate::oauth::{Endpoint, HostEndpoint, Purpose};
use crate::secret::Secret;
use crate::values::{no_key, quoted};

const MILLISECOND: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// A setting.
pub struct Setting {
    name: &'static str,
    group: &'static str,
    about: &'static str,
    default: &'static str,
    setting_type: SettingType,
    fingerprint: Fingerprint,
    /// The dialects in which the setting is used.
    pub(super) used: Use,
    /// Whether the setting is about calls that the provider makes itself. It has no use where the host makes the calls.
    pub(super) own_calls: bool,
    choices: fn() -> Vec<&'static str>,
    set: fn(&mut Config, &str) -> Result<(), Invalid>,
    check: fn(&Config) -> Result<(), (String, Invalid)>,
    is_set: fn(&Config) -> bool,
}

/// Whether a setting is part of a provider's fingerprint. Each setting that changes an answer or its origin must be a
/// part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fingerprint {
    /// The setting is a part.
    Part,
    /// The setting is not a part, for this reason.
    Left(&'static str),
}

/// The dialects in which a setting is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// With any dialect, or as a check of its own decides.
    Always,
    /// Where the gateway mints JWTs.
    Minting,
    /// With [`Dialect::Exchange`].
    Exchange,
}

impl Setting {
    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The heading of its group in the docs.
    pub fn group(&self) -> &'static str {
        self.group
    }

    /// Its description, in Markdown; links are relative to the folder `docs`.
    pub fn about(&self) -> &'static str {
        self.about
    }

    /// Its default, in Markdown; empty if it has none.
    pub fn default(&self) -> &'static str {
        self.default
    }

    /// Its type.
    pub fn setting_type(&self) -> SettingType {
        self.setting_type
    }

    /// The words of a [`SettingType::Choice`]; empty for any other type.
    pub fn choices(&self) -> Vec<&'static str> {
        (self.choices)()
    }

    /// Whether its value names one file or several: a host may resolve relative paths.
    pub fn is_path(&self) -> bool {
        matches!(self.setting_type, SettingType::Path | SettingType::Paths)
    }

    /// Whether its value may be shown in a message. A URL may contain credentials by mistake.
    pub fn is_shown(&self) -> bool {
        !matches!(
            self.setting_type,
            SettingType::Secret | SettingType::Url | SettingType::Urls
        )
    }

    /// Whether it is part of a provider's fingerprint.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// Whether a value is set. A setting that always has a value is set if the value is not its default.
    pub(super) fn is_set(&self, config: &Config) -> bool {
        (self.is_set)(config)
    }
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// The type of a field.
macro_rules! field {
    (opt $type:ty) => { Option<$type> };
    ($kind:ident $type:ty) => { $type };
}

/// The default of a field.
macro_rules! initial {
    (val $rule:expr, $default:expr) => {
        ($rule).read($default).unwrap_or_default()
    };
    ($kind:ident $rule:expr, $default:expr) => {
        Default::default()
    };
}

/// A value, as it is stored.
macro_rules! stored {
    (opt $value:expr) => {
        Some($value)
    };
    ($kind:ident $value:expr) => {
        $value
    };
}

/// The check of a field.
macro_rules! checked {
    (opt $field:expr, $rule:expr) => {
        $field.as_ref().map_or(Ok(()), |value| ($rule).check(value))
    };
    ($kind:ident $field:expr, $rule:expr) => {
        ($rule).check(&$field)
    };
}

/// Whether a field is set.
macro_rules! is_set {
    (opt $field:expr, $rule:expr, $default:expr) => {
        $field.is_some()
    };
    (list $field:expr, $rule:expr, $default:expr) => {
        !$field.is_empty()
    };
    (val $field:expr, $rule:expr, $default:expr) => {
        ($rule)
            .read($default)
            .is_ok_and(|default| $field != default)
    };
}

/// The default, as the docs show it.
macro_rules! shown {
    (val $default:literal) => {
        concat!("`", $default, "`")
    };
    ($kind:ident $default:literal) => {
        $default
    };
}

/// The type of a rule's setting.
const fn type_of<R: Rule>(_: &R) -> SettingType {
    R::TYPE
}

/// Defines the fields of [`Config`] and the table from `group { kind name: type = rule { … } … } …`. A setting of kind
/// `opt` may be unset, one of kind `list` may be empty, and one of kind `val` always has a value, at first its default.
macro_rules! settings {
    ($($group:literal $($kind:ident $name:ident: $type:ty = $rule:expr => {
        about: $about:literal,
        default: $default:literal,
        fingerprint: $fingerprint:expr,
        used: $used:expr,
        own_calls: $own_calls:expr,
    })+)+) => {
        /// The settings of a provider: plain data, checked by [`Config::build`].
        #[derive(Debug, Clone)]
        #[non_exhaustive]
        pub struct Config {
            /// The provider's name, for messages.
            pub name: String,
            /// The place where the host introspects tokens, if the host makes the calls
            /// ([`crate::ClientOptions::calls`]). No key sets it. Where it is set, there are no endpoints and no
            /// credentials of our own.
            pub host_endpoint: Option<HostEndpoint>,
            $($(#[doc = $about] pub $name: field!($kind $type),)+)+
        }

        impl Config {
            /// A configuration with every default.
            pub fn new(name: impl Into<String>) -> Self {
                Config {
                    name: name.into(),
                    host_endpoint: None,
                    $($($name: initial!($kind $rule, $default),)+)+
                }
            }
        }

        /// The settings, in the order of the docs.
        pub(super) static TABLE: &[Setting] = &[$($(
            Setting {
                name: stringify!($name),
                group: $group,
                about: $about,
                default: shown!($kind $default),
                setting_type: type_of(&$rule),
                fingerprint: $fingerprint,
                used: $used,
                own_calls: $own_calls,
                choices: || ($rule).choices(),
                set: |config, text| {
                    config.$name = stored!($kind ($rule).read(text)?);
                    Ok(())
                },
                check: |config| checked!($kind config.$name, $rule),
                is_set: |config| is_set!($kind config.$name, $rule, $default),
            },
        )+)+];
    };
}

settings! {
    "The authorization server"
    opt issuer: Issuer = IssuerUrl => {
        about: "The server's issuer identifier (RFC 8414 §2), exactly as in [its metadata](nginx.md#discovery), which \
         provide all values that are not set here",
        default: "",
        fingerprint: Fingerprint::Part,
        used: Use::Always,
        own_calls: true,
    }
    list introspection_endpoint: Vec<Endpoint> = EndpointUrls => {
        about: "The introspection endpoint (RFC 7662 §2): an `https` or `http` URL, or `unix:/path/of.sock:/introspect` \
         ([details](nginx.md#reaching-the-authorization-server)). Several, separated by spaces, are addresses of \
         one authorization server: they are tried in order, those that failed lately last, within one `timeout`",
        default: "by `issuer`",
        fingerprint: Fingerprint::Part,
        used: Use::Always,
        own_calls: false,
    }
    opt token_endpoint: Endpoint = EndpointUrl(Purpose::Token) => {
        about: "The token endpoint, for token exchange and for our own access token (RFC 6749 §3.2)",
        default: "by `issuer`",
        fingerprint: Fingerprint::Part,
        used: Use::Always,
        own_calls: true,
    }
    opt jwks_uri: Endpoint = EndpointUrl(Purpose::Keys) => {
        about: "The URL of the server's keys (RFC 7517 §5)",
        default: "by `issuer`",
        fingerprint: Fingerprint::Part,
        used: Use::Always,
        own_calls: true,
    }
    "Client authentication"
    opt client_id: String = Text => {
        about: "Our client identifier at the authorization server",
        default: "",
        fingerprint: Fingerprint::Part,
        used: Use::Always,
        own_calls: true,
    }
    opt client_secret: Secret = Hidden(rules::text) => {
        about: "Our client secret; prefer `client_secret_file`",
        default: "",
        fingerprint: Fingerprint::Left("proves who we are and may rotate; client_id says it"),
        used: Use::Always,
        own_calls: false,
    }
    opt client_secret_file: PathBuf = Path => {
        about: "A file with our client secret; one trailing newline is removed",
        default: "",
        fingerprint: Fingerprint::Left("as client_secret"),
        used: Use::Always,
        own_calls: false,
    }
    opt bearer_token: Secret = Hidden(rules::bearer_token) => {
        about: "A bearer token for client authentication instead of identifier and secret (RFC 7662 §2.1); prefer \
         `bearer_token_file`",
        default: "",
        fingerprint: Fingerprint::Part,
        used: Use::Always,
        own_calls: false,
    }
    opt bearer_token_file: PathBuf = Path => {
        about: "A file with this bearer token; one trailing newline is removed",
        default: "",
        fingerprint: Fingerprint::Part,
        used: Use::Always,
        own_calls: false,
    }
    opt private_key: PathBuf = Path => {
        about: "A PEM file with our private key, for `private_key_jwt`: P-256, P-384, Ed25519 or RSA, not encrypted",
        default: "",
        fingerprint: Fingerprint::Left("proves who we are and may rotate; client_id says it"),
        used: Use::Always,
        own_calls: false,
    }
    opt private_key_id: String = Text => {
        about: "The `kid` of that key at the server",
        default: "its thumbprint (RFC 7638)",
        fingerprint: Fingerprint::Left("names that key to the server"),
        used: Use::Always,
        own_calls: false,
    }
    opt private_key_alg: Algorithm = Choice(Algorithm::ALL) => {
        about: "The signature algorithm of an RSA key: `RS256`, `PS256`, …; any other key has only one",
        default: "`RS256` with RSA",
        fingerprint: Fingerprint::Left("is how that key signs"),
        used: Use::Always,
        own_calls: false,
    }
    opt assertion_audience: String = Text => {
        about: "The audience (`aud`) of our assertions",
        default: "the issuer, else the endpoint",
        fingerprint: Fingerprint::Left("a server that is not meant refuses us and answers nothing"),
        used: Use::Always,
        own_calls: false,
    }
    opt client_auth: ClientAuth = Choice(ClientAuth::ALL) => {
        about: "The method of client authentication: [details](nginx.md#client-authentication)",
        default: "by what is set and what the server lists",
        fingerprint: Fingerprint::Part,
        used: Use::Always,
        own_calls: true,
    }
    opt client_credentials_scope: String = Text => {
        about: "The scope of our own access token (`client_auth client_credentials`)",
        default: "",
        fingerprint: Fingerprint::Part,
        used: Use::Always,
        own_calls: false,
    }
    "The JWT"
    val dialect: Dialect = Choice(Dialect::VARIANTS) => {
        about: "The way in which the server hands over the JWT: `jwt`, `json`, `auto`, `signed`, `exchange` or `mint` \
         ([details](nginx.md#dialects))",
        default: "auto",
        fingerprint: Fingerprint::Part,
        used: Use::Always,
        own_calls: false,
    }
    opt jwt_claim: Vec<String> = Words(rules::jwt_claims) => {
        about: "The claims that may contain the JWT, in order of preference",
        default: "`jwt phantom_token`",
        fingerprint: Fingerprint::Part,
        used: Use::Always,
        own_calls: false,
    }
    opt forward: Forward = Choice(Forward::VARIANTS) => {
        about: "What goes upstream with `dialect signed`: a JWT that the gateway mints (`mint`), or the unchanged \
         response (`signed`)",
        default: "`mint`",
        fingerprint: Fingerprint::Part,
        used: Use::Always,
        own_calls: false,
    }
    val verify: bool = Switch => {
        about: "`on`: a JWT that the server hands over must verify with the server's keys: signature, `exp`, `nbf`, and \
         `iss` if `issuer` is set",
        default: "off",
        fingerprint: Fingerprint::Part,
        used: Use::Always,
        own_calls: true,
    }
    opt verify_audience: Vec<String> = Words(rules::words) => {
        about: "The JWT must also name one of these in `aud`; with `dialect mint` and `signed`, the server's answer must",
        default: "",
        fingerprint: Fingerprint::Part,
        used: Use::Always,
        own_calls: false,
    }
    opt token_type: TokenKind = Choice(TokenKind::VARIANTS) => {
        about: "The tokens that `dialect mint` and `signed` accept: only those that the answer says are access tokens \
         (`access_token`), or all that it does not say are of another type (`any`), which may include refresh \
         tokens ([details](nginx.md#dialects))",
        default: "`access_token`",
        fingerprint: Fingerprint::Part,
        used: Use::Always,
        own_calls: false,
    }
    "Minting"
    list mint_key: Vec<PathBuf> = Paths(MAX_MINT_KEYS) => {
        about: "PEM files with private keys, not encrypted: the first one signs minted JWTs, and all are published. \
         Their names contain no spaces",
        default: "",
        fingerprint: Fingerprint::Part,
        used: Use::Minting,
        own_calls: false,
    }
    opt mint_alg: Algorithm = Choice(RSA_ALGORITHMS) => {
        about: "The signature algorithm of RSA keys: `RS256`, `RS384`, `RS512`, `PS256`, `PS384` or `PS512`. P-256 signs \
         with `ES256`, P-384 with `ES384`, Ed25519 with `EdDSA`",
        default: "`RS256`",
        fingerprint: Fingerprint::Part,
        used: Use::Minting,
        own_calls: false,
    }
    opt mint_issuer: String = Text => {
        about: "The `iss` of minted JWTs: the gateway's name for APIs. Each authorization server needs a different one; \
         nginx checks that, in C and Python you have to",
        default: "",
        fingerprint: Fingerprint::Part,
        used: Use::Minting,
        own_calls: false,
    }
    opt mint_ttl: Duration = Time(SECOND..=DAY) => {
        about: "The maximum lifetime of minted JWTs, `1s` to `1d`; they never outlive the token",
        default: "`5m`",
        fingerprint: Fingerprint::Part,
        used: Use::Minting,
        own_calls: false,
    }
    opt mint_claims: Vec<String> = Words(rules::claim_names) => {
        about: "The claims of the server's answer that are minted",
        default: "all",
        fingerprint: Fingerprint::Part,
        used: Use::Minting,
        own_calls: false,
    }
    opt mint_claims_except: Vec<String> = Words(rules::claim_names) => {
        about: "The claims that are not minted; instead of `mint_claims`",
        default: "",
        fingerprint: Fingerprint::Part,
        used: Use::Minting,
        own_calls: false,
    }
    "Token exchange"
    opt exchange_audience: Vec<String> = Words(rules::words) => {
        about: "The audience of the JWT that a token is exchanged for (`audience`), one or more",
        default: "",
        fingerprint: Fingerprint::Part,
        used: Use::Exchange,
        own_calls: false,
    }
    opt exchange_resource: Vec<String> = Words(rules::resources) => {
        about: "The place where the JWT is used (`resource`, RFC 8707), one URI or more",
        default: "",
        fingerprint: Fingerprint::Part,
        used: Use::Exchange,
        own_calls: false,
    }
    opt exchange_scope: Vec<String> = Words(rules::words) => {
        about: "The scope to request",
        default: "",
        fingerprint: Fingerprint::Part,
        used: Use::Exchange,
        own_calls: false,
    }
    opt exchange_token_type: TokenType = Choice(TokenType::VARIANTS) => {
        about: "The token type to request: `jwt`, or `access_token`, which must be a JWT too",
        default: "`jwt`",
        fingerprint: Fingerprint::Part,
        used: Use::Exchange,
        own_calls: false,
    }
    opt exchange_introspect: bool = Switch => {
        about: "`on` or `off`: whether a token is introspected before it is exchanged, to know whether it is bound to a \
         key of its sender",
        default: "unless the metadata say that the server binds none",
        fingerprint: Fingerprint::Part,
        used: Use::Exchange,
        own_calls: false,
    }
    "Calls to the authorization server"
    val timeout: Duration = Time(MILLISECOND..=DAY) => {
        about: "The maximum time for one token, all attempts included",
        default: "5s",
        fingerprint: Fingerprint::Left("an answer that came in time is the same answer"),
        used: Use::Always,
        own_calls: false,
    }
    val connect_timeout: Duration = Time(MILLISECOND..=DAY) => {
        about: "The maximum time for one connection; at most three quarters of `timeout`",
        default: "2s",
        fingerprint: Fingerprint::Left("as timeout"),
        used: Use::Always,
        own_calls: false,
    }
    val retries: u32 = Few(Number(0..=3)) => {
        about: "How often a failed call is repeated within `timeout`, 0 to 3",
        default: "1",
        fingerprint: Fingerprint::Left("the same question, asked again"),
        used: Use::Always,
        own_calls: false,
    }
    val max_concurrent: usize = Number(1..=1 << 20) => {
        about: "The maximum number of simultaneous calls, per worker",
        default: "256",
        fingerprint: Fingerprint::Left("whether it is asked now, not what it says"),
        used: Use::Always,
        own_calls: false,
    }
    val max_waiting: usize = Number(1..=1 << 24) => {
        about: "The maximum number of waiting requests, per worker; more get 503",
        default: "16384",
        fingerprint: Fingerprint::Left("as max_concurrent"),
        used: Use::Always,
        own_calls: false,
    }
    val max_response_size: usize = Size(1 << 10..=16 << 20) => {
        about: "The maximum size of an answer",
        default: "64k",
        fingerprint: Fingerprint::Left("a longer answer is an error and not remembered"),
        used: Use::Always,
        own_calls: false,
    }
    val max_fails: u32 = Few(Number(0..=1 << 16)) => {
        about: "How many failures stop or limit calls to the authorization server: this number of calls without a \
         connection in a row, or 20 times as many tokens that fail without an answer in between \
         ([details](nginx.md#when-the-authorization-server-fails)); `0`: never",
        default: "5",
        fingerprint: Fingerprint::Left("as max_concurrent"),
        used: Use::Always,
        own_calls: false,
    }
    val fail_timeout: Duration = Time(MILLISECOND..=DAY) => {
        about: "How long calls are stopped or limited at first; the time doubles, up to a minute",
        default: "1s",
        fingerprint: Fingerprint::Left("as max_concurrent"),
        used: Use::Always,
        own_calls: false,
    }
    "The cache"
    val cache_size: usize = Size(0..=1 << 40) => {
        about: "The memory for cached tokens, per worker; `0` turns this cache off",
        default: "64m",
        fingerprint: Fingerprint::Left("how much is remembered, not what"),
        used: Use::Always,
        own_calls: false,
    }
    val cache_entries: usize = Number(0..=1 << 31) => {
        about: "The maximum number of cached tokens, per worker",
        default: "200000",
        fingerprint: Fingerprint::Left("as cache_size"),
        used: Use::Always,
        own_calls: false,
    }
    val cache_ttl: Duration = Time(Duration::ZERO..=YEAR) => {
        about: "The maximum time for which an active token is cached; its `exp` ends it earlier",
        default: "60s",
        fingerprint: Fingerprint::Left("how long a verdict lasts is remembered with it"),
        used: Use::Always,
        own_calls: false,
    }
    val cache_inactive_ttl: Duration = Time(Duration::ZERO..=YEAR) => {
        about: "The time for which an inactive token is cached. With `0` it is introspected each time; older entries of \
         the token end in any case",
        default: "10s",
        fingerprint: Fingerprint::Left("as cache_ttl"),
        used: Use::Always,
        own_calls: false,
    }
    val cache_control: CacheControl = Choice(CacheControl::VARIANTS) => {
        about: "The part of an answer's `Cache-Control` that is obeyed: `max-age` (it shortens `cache_ttl`), `strict` \
         (all of it), `ignore` (nothing)",
        default: "max-age",
        fingerprint: Fingerprint::Left("as cache_ttl"),
        used: Use::Always,
        own_calls: false,
    }
    val refresh_ahead: u32 = Percent(Few(Number(0..=90))) => {
        about: "A hit in this last part of an entry's lifetime, in percent (`0` to `90`), starts a new introspection in \
         the background; `0`: never",
        default: "0",
        fingerprint: Fingerprint::Left("when it is asked again, not what it says"),
        used: Use::Always,
        own_calls: true,
    }
    val stale_if_error: Duration = Time(Duration::ZERO..=YEAR) => {
        about: "How long an expired entry of an active token is used if the authorization server can't be asked; never \
         beyond the token's `exp`",
        default: "0",
        fingerprint: Fingerprint::Left("as cache_ttl"),
        used: Use::Always,
        own_calls: false,
    }
    "TLS and proxies"
    opt ssl_trusted_certificate: PathBuf = Path => {
        about: "A PEM file with the certificate authorities to trust instead of the system's",
        default: "the system's",
        fingerprint: Fingerprint::Part,
        used: Use::Always,
        own_calls: true,
    }
    val ssl_verify: bool = Switch => {
        about: "`off` accepts any certificate: for trials only, with a warning",
        default: "on",
        fingerprint: Fingerprint::Part,
        used: Use::Always,
        own_calls: false,
    }
    opt ssl_certificate: PathBuf = Path => {
        about: "A PEM file with our certificate, for servers that ask for one (mutual TLS, RFC 8705), followed by its \
         intermediate certificates",
        default: "",
        fingerprint: Fingerprint::Part,
        used: Use::Always,
        own_calls: true,
    }
    opt ssl_certificate_key: PathBuf = Path => {
        about: "A PEM file with its private key, not encrypted",
        default: "",
        fingerprint: Fingerprint::Left("its certificate is of the same key, and is what the server sees"),
        used: Use::Always,
        own_calls: false,
    }
    opt ssl_name: String = ServerName => {
        about: "The name that is sent to the server (SNI) and must be in its certificate, instead of the URL's host; \
         calls are HTTP/1.1 then",
        default: "the URL's host",
        fingerprint: Fingerprint::Part,
        used: Use::Always,
        own_calls: true,
    }
    val ssl_protocols: SslProtocols = TlsVersions => {
        about: "The allowed versions of TLS: `TLSv1.2`, `TLSv1.3` or both",
        default: "TLSv1.2 TLSv1.3",
        fingerprint: Fingerprint::Left("whichever is spoken, the server is verified in the same way"),
        used: Use::Always,
        own_calls: false,
    }
    opt proxy: Proxy = ProxyUrl => {
        about: "A forward proxy for all calls except those to Unix sockets: an `http` or `https` URL, with user and \
         password if the proxy needs them; not together with `ssl_name`",
        default: "",
        fingerprint: Fingerprint::Part,
        used: Use::Always,
        own_calls: true,
    }
}

/// The names of all settings, computed at compile time.
pub(super) static NAMES: [&str; TABLE.len()] = {
    let mut names = [""; TABLE.len()];
    let mut index = 0;
    while index < TABLE.len() {
        names[index] = TABLE[index].name;
        index += 1;
    }
    names
};

/// Sets a key by its name.
pub(super) fn set(config: &mut Config, name: &str, value: &str) -> Result<(), ConfigError> {
    let Some(setting) = TABLE.iter().find(|setting| setting.name == name) else {
        return Err(ConfigError(format!(
            "provider {:?}: {}",
            config.name,
            no_key(&NAMES, name)
        )));
    };
    (setting.set)(config, value).map_err(|why| {
        let value = match setting.is_shown() {
            true => quoted(value),
            false => String::new(),
        };
        config.refuse(name, &value, &why.to_string())
    })
}

/// Checks every value by the rule of its setting.
pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    TABLE.iter().try_for_each(|setting| {
        (setting.check)(config).map_err(|(value, why)| {
            let value = if setting.is_shown() {
                value
            } else {
                String::new()
            };
            config.refuse(setting.name, &value, &why.to_string())
        })
    })
}
