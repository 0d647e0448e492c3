//! The table of keys: their names, what their values look like, and how they are set and checked.
//!
//! Every rule about one value alone stands here, once: [`Config::set`] asks it before it stores a value, and
//! [`Config::build`] asks it again for what came through the typed fields.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::jwt::Algorithm;
use crate::oauth::Purpose;
use crate::values::{self, no_key, quoted};

use super::{
    CacheControl, ClientAuth, Config, ConfigError, Dialect, Forward, Secret, TokenKind, TokenType,
    acquisition, build, transport,
};

/// Why a value is refused, and the mend: what follows the key and the value in a message.
pub(super) type Refusal = String;

pub(super) struct Key {
    name: &'static str,
    /// A value may be shown in a message.
    show: bool,
    /// Reads, checks and stores a value.
    set: fn(&mut Config, &str) -> Result<(), Refusal>,
    /// Checks what is stored; refuses with the value, where it may be shown, and why.
    check: fn(&Config) -> Result<(), (String, Refusal)>,
}

const DAYS: u64 = 86_400;

const TIMEOUT: Range<Duration> = Range(Duration::from_millis(1)..=Duration::from_secs(DAYS));
const TTL: Range<Duration> = Range(Duration::ZERO..=Duration::from_secs(365 * DAYS));
const RETRIES: Range<u64> = Range(0..=3);
const CALLS: Range<u64> = Range(1..=1 << 20);
const WAITERS: Range<u64> = Range(1..=1 << 24);
const RESPONSE: Range<u64> = Range(1 << 10..=16 << 20);
const CACHE: Range<u64> = Range(0..=1 << 40);
const ENTRIES: Range<u64> = Range(0..=1 << 31);
const PERCENT: Range<u64> = Range(0..=90);
const FAILS: Range<u64> = Range(0..=1 << 16);
const MINT_TTL: Range<Duration> = Range(Duration::from_secs(1)..=Duration::from_secs(DAYS));
const FAIL_TIMEOUT: Range<Duration> = Range(Duration::from_millis(1)..=Duration::from_secs(DAYS));

pub(super) const KEYS: &[Key] = &[
    Key {
        name: "issuer",
        show: false,
        set: |config, value| {
            build::issuer(value)?;
            config.issuer = Some(value.to_owned());
            Ok(())
        },
        check: |config| match &config.issuer {
            Some(issuer) => build::issuer(issuer).map(drop).map_err(unshown),
            None => Ok(()),
        },
    },
    Key {
        name: "token_endpoint",
        show: false,
        set: |config, value| {
            build::endpoint_for(Purpose::Token, value)?;
            config.token_endpoint = Some(value.to_owned());
            Ok(())
        },
        check: |config| one_endpoint(Purpose::Token, config.token_endpoint.as_deref()),
    },
    Key {
        name: "jwks_uri",
        show: false,
        set: |config, value| {
            build::endpoint_for(Purpose::Keys, value)?;
            config.jwks_uri = Some(value.to_owned());
            Ok(())
        },
        check: |config| one_endpoint(Purpose::Keys, config.jwks_uri.as_deref()),
    },
    Key {
        name: "introspection_endpoint",
        // It may hold credentials where none belong.
        show: false,
        set: |config, value| {
            build::endpoints(value)?;
            config.introspection_endpoint = Some(value.to_owned());
            Ok(())
        },
        check: |config| match &config.introspection_endpoint {
            Some(endpoint) => build::endpoints(endpoint).map(drop).map_err(unshown),
            None => Ok(()),
        },
    },
    Key {
        name: "client_id",
        show: true,
        set: |config, value| {
            config.client_id = Some(text(value)?.to_owned());
            Ok(())
        },
        check: |config| optional(config.client_id.as_deref(), text),
    },
    Key {
        name: "client_secret",
        show: false,
        set: |config, value| {
            config.client_secret = Some(Secret::new(text(value)?));
            Ok(())
        },
        check: |config| optional(config.client_secret.as_ref().map(Secret::expose), text),
    },
    Key {
        name: "client_secret_file",
        show: true,
        set: |config, value| {
            config.client_secret_file = Some(path(value)?);
            Ok(())
        },
        check: |config| optional_path(config.client_secret_file.as_deref()),
    },
    Key {
        name: "bearer_token",
        show: false,
        set: |config, value| {
            config.bearer_token = Some(Secret::new(build::bearer_token(value)?));
            Ok(())
        },
        check: |config| {
            optional(
                config.bearer_token.as_ref().map(Secret::expose),
                build::bearer_token,
            )
        },
    },
    Key {
        name: "bearer_token_file",
        show: true,
        set: |config, value| {
            config.bearer_token_file = Some(path(value)?);
            Ok(())
        },
        check: |config| optional_path(config.bearer_token_file.as_deref()),
    },
    Key {
        name: "client_auth",
        show: true,
        set: |config, value| {
            let choices: Vec<_> = ClientAuth::ALL
                .iter()
                .map(|method| (method.as_str(), *method))
                .collect();
            config.client_auth = Some(one_of(value, &choices)?);
            Ok(())
        },
        check: |_| Ok(()),
    },
    Key {
        name: "private_key",
        show: true,
        set: |config, value| {
            config.private_key = Some(path(value)?);
            Ok(())
        },
        check: |config| optional_path(config.private_key.as_deref()),
    },
    Key {
        name: "private_key_id",
        show: true,
        set: |config, value| {
            config.private_key_id = Some(text(value)?.to_owned());
            Ok(())
        },
        check: |config| optional(config.private_key_id.as_deref(), text),
    },
    Key {
        name: "private_key_alg",
        show: true,
        set: |config, value| {
            let choices: Vec<_> = Algorithm::ALL
                .iter()
                .map(|algorithm| (algorithm.as_str(), *algorithm))
                .collect();
            config.private_key_alg = Some(one_of(value, &choices)?);
            Ok(())
        },
        check: |_| Ok(()),
    },
    Key {
        name: "assertion_audience",
        show: true,
        set: |config, value| {
            config.assertion_audience = Some(text(value)?.to_owned());
            Ok(())
        },
        check: |config| optional(config.assertion_audience.as_deref(), text),
    },
    Key {
        name: "client_credentials_scope",
        show: true,
        set: |config, value| {
            config.client_credentials_scope = Some(text(value)?.to_owned());
            Ok(())
        },
        check: |config| optional(config.client_credentials_scope.as_deref(), text),
    },
    Key {
        name: "dialect",
        show: true,
        set: |config, value| {
            config.dialect = one_of(
                value,
                &[
                    ("jwt", Dialect::Jwt),
                    ("json", Dialect::Json),
                    ("signed", Dialect::Signed),
                    ("exchange", Dialect::Exchange),
                    ("mint", Dialect::Mint),
                    ("auto", Dialect::Auto),
                ],
            )?;
            Ok(())
        },
        check: |_| Ok(()),
    },
    Key {
        name: "jwt_claim",
        show: true,
        set: |config, value| {
            jwt_claims(value)?;
            config.jwt_claim = Some(value.to_owned());
            Ok(())
        },
        check: |config| optional(config.jwt_claim.as_deref(), jwt_claims),
    },
    Key {
        name: "forward",
        show: true,
        set: |config, value| {
            config.forward = Some(one_of(
                value,
                &[("signed", Forward::Signed), ("mint", Forward::Mint)],
            )?);
            Ok(())
        },
        check: |_| Ok(()),
    },
    Key {
        name: "verify",
        show: true,
        set: |config, value| {
            config.verify = switch(value)?;
            Ok(())
        },
        check: |_| Ok(()),
    },
    Key {
        name: "verify_audience",
        show: true,
        set: |config, value| {
            config.verify_audience = Some(acquisition::words(value)?);
            Ok(())
        },
        check: |config| optional(config.verify_audience.as_deref(), acquisition::words),
    },
    Key {
        name: "token_type",
        show: true,
        set: |config, value| {
            config.token_type = Some(one_of(
                value,
                &[
                    ("access_token", TokenKind::AccessToken),
                    ("any", TokenKind::Any),
                ],
            )?);
            Ok(())
        },
        check: |_| Ok(()),
    },
    Key {
        name: "mint_key",
        show: true,
        set: |config, value| {
            config.mint_key = acquisition::paths(value)?;
            Ok(())
        },
        check: |config| match &*config.mint_key {
            [] => Ok(()),
            paths => {
                acquisition::check_paths(paths).map_err(|refusal| (format!("{paths:?}"), refusal))
            }
        },
    },
    Key {
        name: "mint_alg",
        show: true,
        set: |config, value| {
            config.mint_alg = Some(one_of(value, acquisition::RSA_ALGORITHMS)?);
            Ok(())
        },
        check: |config| {
            optional(config.mint_alg.map(Algorithm::as_str), |name| {
                one_of(name, acquisition::RSA_ALGORITHMS)
            })
        },
    },
    Key {
        name: "mint_issuer",
        show: true,
        set: |config, value| {
            config.mint_issuer = Some(text(value)?.to_owned());
            Ok(())
        },
        check: |config| optional(config.mint_issuer.as_deref(), text),
    },
    Key {
        name: "mint_ttl",
        show: true,
        set: |config, value| {
            config.mint_ttl = Some(MINT_TTL.read(value)?);
            Ok(())
        },
        check: |config| config.mint_ttl.map_or(Ok(()), |ttl| MINT_TTL.hold(ttl)),
    },
    Key {
        name: "mint_claims",
        show: true,
        set: |config, value| {
            acquisition::claim_names(value)?;
            config.mint_claims = Some(value.to_owned());
            Ok(())
        },
        check: |config| optional(config.mint_claims.as_deref(), acquisition::claim_names),
    },
    Key {
        name: "mint_claims_except",
        show: true,
        set: |config, value| {
            acquisition::claim_names(value)?;
            config.mint_claims_except = Some(value.to_owned());
            Ok(())
        },
        check: |config| {
            optional(
                config.mint_claims_except.as_deref(),
                acquisition::claim_names,
            )
        },
    },
    Key {
        name: "exchange_audience",
        show: true,
        set: |config, value| {
            config.exchange_audience = Some(acquisition::words(value)?);
            Ok(())
        },
        check: |config| optional(config.exchange_audience.as_deref(), acquisition::words),
    },
    Key {
        name: "exchange_resource",
        show: true,
        set: |config, value| {
            config.exchange_resource = Some(acquisition::resources(value)?);
            Ok(())
        },
        check: |config| optional(config.exchange_resource.as_deref(), acquisition::resources),
    },
    Key {
        name: "exchange_scope",
        show: true,
        set: |config, value| {
            config.exchange_scope = Some(acquisition::words(value)?);
            Ok(())
        },
        check: |config| optional(config.exchange_scope.as_deref(), acquisition::words),
    },
    Key {
        name: "exchange_token_type",
        show: true,
        set: |config, value| {
            config.exchange_token_type = Some(one_of(
                value,
                &[
                    ("jwt", TokenType::Jwt),
                    ("access_token", TokenType::AccessToken),
                ],
            )?);
            Ok(())
        },
        check: |_| Ok(()),
    },
    Key {
        name: "exchange_introspect",
        show: true,
        set: |config, value| {
            config.exchange_introspect = Some(switch(value)?);
            Ok(())
        },
        check: |_| Ok(()),
    },
    Key {
        name: "timeout",
        show: true,
        set: |config, value| {
            config.timeout = TIMEOUT.read(value)?;
            Ok(())
        },
        check: |config| TIMEOUT.hold(config.timeout),
    },
    Key {
        name: "connect_timeout",
        show: true,
        set: |config, value| {
            config.connect_timeout = TIMEOUT.read(value)?;
            Ok(())
        },
        check: |config| TIMEOUT.hold(config.connect_timeout),
    },
    Key {
        name: "retries",
        show: true,
        set: |config, value| {
            // The range fits.
            config.retries = RETRIES.read_count(value)? as u32;
            Ok(())
        },
        check: |config| RETRIES.hold(u64::from(config.retries)),
    },
    Key {
        name: "max_concurrent",
        show: true,
        set: |config, value| {
            config.max_concurrent = CALLS.read_count(value)?;
            Ok(())
        },
        check: |config| CALLS.hold(config.max_concurrent as u64),
    },
    Key {
        name: "max_waiting",
        show: true,
        set: |config, value| {
            config.max_waiting = WAITERS.read_count(value)?;
            Ok(())
        },
        check: |config| WAITERS.hold(config.max_waiting as u64),
    },
    Key {
        name: "max_response_size",
        show: true,
        set: |config, value| {
            config.max_response_size = RESPONSE.read_size(value)?;
            Ok(())
        },
        check: |config| RESPONSE.hold(config.max_response_size as u64),
    },
    Key {
        name: "cache_size",
        show: true,
        set: |config, value| {
            config.cache_size = CACHE.read_size(value)?;
            Ok(())
        },
        check: |config| CACHE.hold(config.cache_size as u64),
    },
    Key {
        name: "cache_entries",
        show: true,
        set: |config, value| {
            config.cache_entries = ENTRIES.read_count(value)?;
            Ok(())
        },
        check: |config| ENTRIES.hold(config.cache_entries as u64),
    },
    Key {
        name: "cache_ttl",
        show: true,
        set: |config, value| {
            config.cache_ttl = TTL.read(value)?;
            Ok(())
        },
        check: |config| TTL.hold(config.cache_ttl),
    },
    Key {
        name: "cache_inactive_ttl",
        show: true,
        set: |config, value| {
            config.cache_inactive_ttl = TTL.read(value)?;
            Ok(())
        },
        check: |config| TTL.hold(config.cache_inactive_ttl),
    },
    Key {
        name: "cache_control",
        show: true,
        set: |config, value| {
            config.cache_control = one_of(
                value,
                &[
                    ("max-age", CacheControl::MaxAge),
                    ("strict", CacheControl::Strict),
                    ("ignore", CacheControl::Ignore),
                ],
            )?;
            Ok(())
        },
        check: |_| Ok(()),
    },
    Key {
        name: "refresh_ahead",
        show: true,
        set: |config, value| {
            // With the sign or without: what else could it be?
            let number = value.strip_suffix('%').unwrap_or(value);
            config.refresh_ahead = PERCENT.read_count(number)? as u32;
            Ok(())
        },
        check: |config| PERCENT.hold(config.refresh_ahead.into()),
    },
    Key {
        name: "stale_if_error",
        show: true,
        set: |config, value| {
            config.stale_if_error = TTL.read(value)?;
            Ok(())
        },
        check: |config| TTL.hold(config.stale_if_error),
    },
    Key {
        name: "max_fails",
        show: true,
        set: |config, value| {
            config.max_fails = FAILS.read_count(value)? as u32;
            Ok(())
        },
        check: |config| FAILS.hold(config.max_fails.into()),
    },
    Key {
        name: "fail_timeout",
        show: true,
        set: |config, value| {
            config.fail_timeout = FAIL_TIMEOUT.read(value)?;
            Ok(())
        },
        check: |config| FAIL_TIMEOUT.hold(config.fail_timeout),
    },
    Key {
        name: "ssl_trusted_certificate",
        show: true,
        set: |config, value| {
            config.ssl_trusted_certificate = Some(path(value)?);
            Ok(())
        },
        check: |config| optional_path(config.ssl_trusted_certificate.as_deref()),
    },
    Key {
        name: "ssl_verify",
        show: true,
        set: |config, value| {
            config.ssl_verify = switch(value)?;
            Ok(())
        },
        check: |_| Ok(()),
    },
    Key {
        name: "ssl_certificate",
        show: true,
        set: |config, value| {
            config.ssl_certificate = Some(path(value)?);
            Ok(())
        },
        check: |config| optional_path(config.ssl_certificate.as_deref()),
    },
    Key {
        name: "ssl_certificate_key",
        show: true,
        set: |config, value| {
            config.ssl_certificate_key = Some(path(value)?);
            Ok(())
        },
        check: |config| optional_path(config.ssl_certificate_key.as_deref()),
    },
    Key {
        name: "ssl_name",
        show: true,
        set: |config, value| {
            transport::server_name(value)?;
            config.ssl_name = Some(value.to_owned());
            Ok(())
        },
        check: |config| optional(config.ssl_name.as_deref(), transport::server_name),
    },
    Key {
        name: "ssl_protocols",
        show: true,
        set: |config, value| {
            config.ssl_protocols = transport::ssl_protocols(value)?;
            Ok(())
        },
        check: |_| Ok(()),
    },
    Key {
        name: "proxy",
        // It may hold a password.
        show: false,
        set: |config, value| {
            transport::proxy(value)?;
            config.proxy = Some(Secret::new(value));
            Ok(())
        },
        check: |config| optional(config.proxy.as_ref().map(Secret::expose), transport::proxy),
    },
];

/// The names of the table, made when this is compiled.
pub(super) static NAMES: [&str; KEYS.len()] = {
    let mut names = [""; KEYS.len()];
    let mut index = 0;
    while index < KEYS.len() {
        names[index] = KEYS[index].name;
        index += 1;
    }
    names
};

pub(super) fn set(config: &mut Config, name: &str, value: &str) -> Result<(), ConfigError> {
    let Some(key) = KEYS.iter().find(|key| key.name == name) else {
        return Err(unknown(config, name));
    };
    (key.set)(config, value).map_err(|refusal| {
        let value = if key.show {
            quoted(value)
        } else {
            String::new()
        };
        config.refuse(key.name, &value, &refusal)
    })
}

/// Every rule about one value alone.
pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    KEYS.iter().try_for_each(|key| {
        (key.check)(config).map_err(|(value, refusal)| {
            let value = if key.show { value } else { String::new() };
            config.refuse(key.name, &value, &refusal)
        })
    })
}

fn unknown(config: &Config, name: &str) -> ConfigError {
    ConfigError(format!(
        "provider {:?}: {}",
        config.name,
        no_key(&NAMES, name)
    ))
}

fn one_endpoint(purpose: Purpose, value: Option<&str>) -> Result<(), (String, Refusal)> {
    match value {
        Some(value) => build::endpoint_for(purpose, value)
            .map(drop)
            .map_err(unshown),
        None => Ok(()),
    }
}

fn unshown(refusal: Refusal) -> (String, Refusal) {
    (String::new(), refusal)
}

fn optional<'a, T>(
    value: Option<&'a str>,
    check: fn(&'a str) -> Result<T, Refusal>,
) -> Result<(), (String, Refusal)> {
    match value {
        Some(value) => check(value)
            .map(drop)
            .map_err(|refusal| (quoted(value), refusal)),
        None => Ok(()),
    }
}

fn optional_path(value: Option<&Path>) -> Result<(), (String, Refusal)> {
    match value {
        Some(value) if value.as_os_str().is_empty() => {
            Err((String::from("\"\""), EMPTY_PATH.to_owned()))
        }
        _ => Ok(()),
    }
}

const EMPTY_PATH: &str = "is empty: name a file, or leave it out";

pub(super) fn path(value: &str) -> Result<PathBuf, Refusal> {
    if value.is_empty() {
        return Err(EMPTY_PATH.to_owned());
    }
    if value.contains('\0') {
        return Err("has a zero byte in it, which no file name has".to_owned());
    }
    Ok(value.into())
}

/// What may be an identifier or a secret.
pub(super) fn text(value: &str) -> Result<&str, Refusal> {
    if value.is_empty() {
        return Err("is empty: set it, or leave it out".to_owned());
    }
    if value.chars().any(char::is_control) {
        return Err("has a line break or another control character in it: remove that".to_owned());
    }
    Ok(value)
}

/// The names of claims in a list separated by spaces.
pub(super) fn jwt_claims(value: &str) -> Result<Vec<String>, Refusal> {
    let mut names: Vec<String> = Vec::new();
    for name in value.split_ascii_whitespace() {
        if name.chars().any(char::is_control) {
            return Err("has a control character in it: remove that".to_owned());
        }
        if name == "active" {
            return Err("names the member that says whether the token is active: name the one that holds the JWT".to_owned());
        }
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    if names.is_empty() {
        return Err("is empty: name the claim that holds the JWT, or leave it out".to_owned());
    }
    Ok(names)
}

fn switch(value: &str) -> Result<bool, Refusal> {
    values::switch(value).ok_or_else(|| "is not a switch: write it as on or off".to_owned())
}

fn one_of<T: Copy>(value: &str, choices: &[(&str, T)]) -> Result<T, Refusal> {
    if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == value) {
        return Ok(*choice);
    }
    let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
    // There are at least two.
    let (last, others) = names.split_last().unwrap_or((&"", &[]));
    Err(format!(
        "is not one of the choices: write {} or {last}",
        others.join(", ")
    ))
}

struct Range<T>(RangeInclusive<T>);

impl<T: PartialOrd + Copy> Range<T> {
    fn refuse(&self, value: T, shown: impl Fn(T) -> String) -> Result<T, Refusal> {
        if self.0.contains(&value) {
            return Ok(value);
        }
        Err(format!(
            "is out of range: it must be {} to {}",
            shown(*self.0.start()),
            shown(*self.0.end())
        ))
    }
}

impl Range<Duration> {
    fn read(&self, text: &str) -> Result<Duration, Refusal> {
        let value = values::time(text)
            .ok_or_else(|| "is not a time: write it as 500ms, 5s or 1m".to_owned())?;
        self.refuse(value, span)
    }

    fn hold(&self, value: Duration) -> Result<(), (String, Refusal)> {
        self.refuse(value, span)
            .map(drop)
            .map_err(|refusal| (format!("{value:?}"), refusal))
    }
}

impl Range<u64> {
    fn hold(&self, value: u64) -> Result<(), (String, Refusal)> {
        self.refuse(value, |bound| bound.to_string())
            .map(drop)
            .map_err(|refusal| (value.to_string(), refusal))
    }

    fn read_count(&self, text: &str) -> Result<usize, Refusal> {
        let value = values::count(text).ok_or_else(|| {
            format!(
                "is not a number: write it as digits, {} to {}",
                self.0.start(),
                self.0.end()
            )
        })?;
        self.fit(value, |bound| bound.to_string())
    }

    fn read_size(&self, text: &str) -> Result<usize, Refusal> {
        let value = values::size(text)
            .ok_or_else(|| "is not a size: write it as 64k, 10m or 1g".to_owned())?;
        self.fit(value, bytes)
    }

    fn fit(&self, value: u64, shown: impl Fn(u64) -> String) -> Result<usize, Refusal> {
        usize::try_from(self.refuse(value, shown)?)
            .map_err(|_| "is more than this machine can address".to_owned())
    }
}

/// A time of days, seconds, milliseconds or none at all, as nginx writes it: what the bounds are.
fn span(time: Duration) -> String {
    match time.as_secs() {
        0 if time.is_zero() => String::from("0"),
        0 => format!("{}ms", time.as_millis()),
        seconds if seconds < DAYS => format!("{seconds}s"),
        seconds => format!("{}d", seconds / DAYS),
    }
}

/// A size in the largest unit that says it exactly.
fn bytes(size: u64) -> String {
    for (shift, unit) in [(30, "g"), (20, "m"), (10, "k")] {
        if size != 0 && size.trailing_zeros() >= shift {
            return format!("{}{unit}", size >> shift);
        }
    }
    size.to_string()
}
