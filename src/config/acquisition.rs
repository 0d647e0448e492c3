//! JWT acquisition beyond the name of the dialect: verification, exchange and minting.
//!
//! A setting that is set and would not be used is an error. An operator who sets `verify_audience` expects
//! verification, and one who sets `mint_key` expects their own key to sign. They must not learn from an attack that
//! this is not so.

use std::sync::Arc;
use std::time::Duration;

use super::settings::{self, Setting, Use};
use super::url::Issuer;
use super::{Config, ConfigError, Dialect, Forward, TokenKind, TokenType, build};
use crate::jwt::{Algorithm, SigningKey, jwks};
use crate::oauth::{Endpoint, Server};

/// The largest key file that is read, in bytes. An RSA key of 8192 bits takes 7 KiB.
const MAX_KEY_FILE: usize = 64 << 10;
/// The most keys that may be published. A key rotation needs two.
pub(super) const MAX_MINT_KEYS: usize = 16;
/// The lifetime of a minted JWT if `mint_ttl` is not set.
const MINT_TTL: Duration = Duration::from_secs(300);

/// Claims of a minted JWT that the gateway itself sets, whatever the lists of claims contain.
const OURS: [&str; 4] = ["iss", "iat", "exp", "jti"];

/// The checked settings of JWT acquisition.
pub(crate) struct JwtAcquisition {
    /// The minting of JWTs; `None` when the JWT of the authorization server goes upstream.
    pub minting: Option<Minting>,
    /// The requirements on a JWT from the authorization server; `None` when JWTs are not verified.
    pub verification: Option<Verification>,
    /// The tokens that are accepted where only the introspection response says what they are.
    pub acceptance: Acceptance,
    /// The parameters of a token exchange.
    pub exchange: Exchange,
}

/// The requirements on an introspection response, where no JWT of the authorization server shows that a token is for
/// APIs.
#[derive(Default)]
pub(crate) struct Acceptance {
    pub kind: TokenKind,
    /// The response must name one of these (`aud`); `None`: any, or none.
    pub audiences: Option<Vec<String>>,
}

/// The minting of JWTs.
pub(crate) struct Minting {
    /// The first key signs, all keys are published. There is at least one.
    pub keys: Vec<SigningKey>,
    /// The JWKS of these keys.
    pub jwks: Arc<str>,
    pub issuer: String,
    pub ttl: Duration,
    pub allow: Option<Vec<String>>,
    pub deny: Vec<String>,
}

/// The requirements on a JWT besides a valid signature.
pub(crate) struct Verification {
    /// The JWT must name one of these; `None`: any, or none.
    pub audiences: Option<Vec<String>>,
}

/// The parameters of a token exchange (RFC 8693 §2.1).
#[derive(Default)]
pub(crate) struct Exchange {
    pub token_type: TokenType,
    /// Whether a token is introspected before the exchange. `None`: yes, unless the authorization server's metadata
    /// shows that it never binds a token to a key.
    pub introspect: Option<bool>,
    /// Form parameters: names and values, in the order in which they are sent.
    pub parameters: Vec<(&'static str, String)>,
}

impl JwtAcquisition {
    pub(super) fn read(
        config: &Config,
        server: &Server,
        warnings: &mut Vec<String>,
    ) -> Result<Self, ConfigError> {
        refuse_unused(config)?;
        let minting = mints(config)
            .then(|| minting(config, warnings))
            .transpose()?;
        let verifies = config.verify || config.dialect == Dialect::Signed;
        if verifies && server.jwks.is_none() && server.issuer.is_none() {
            let what = if config.dialect == Dialect::Signed {
                "dialect signed"
            } else {
                "verify on"
            };
            return Err(config.refuse(
                "issuer or jwks_uri",
                "",
                &format!(
                    "is missing: {what} needs the authorization server's keys; set issuer, if the server publishes \
                     its metadata"
                ),
            ));
        }
        if config.dialect == Dialect::Signed {
            for (key, there, what) in [
                (
                    "issuer",
                    server.issuer.is_some(),
                    "who must have signed (iss)",
                ),
                (
                    "client_id",
                    config.client_id.is_some(),
                    "whom the answer must be for (aud)",
                ),
            ] {
                if !there {
                    return Err(config.refuse(
                        key,
                        "",
                        &format!("is missing: dialect signed needs it to know {what}"),
                    ));
                }
            }
        }
        let by_answer = accepts_by_answer(config.dialect);
        let verification = config.verify.then(|| Verification {
            audiences: config.verify_audience.clone().filter(|_| !by_answer),
        });
        let acceptance = Acceptance {
            kind: config.token_type.unwrap_or_default(),
            audiences: config.verify_audience.clone().filter(|_| by_answer),
        };
        if acceptance.kind == TokenKind::Any {
            warnings.push(format!(
                "provider {:?}: token_type any: a refresh token opens the APIs if the authorization server introspects it as \
                 active and does not say what it is; make sure that it introspects access tokens only",
                config.name
            ));
        }
        let mut parameters = Vec::new();
        for (name, value) in [
            ("audience", &config.exchange_audience),
            ("resource", &config.exchange_resource),
        ] {
            // Each value is a parameter of its own (RFC 8693 §2.1).
            let values = value.iter().flatten();
            parameters.extend(values.map(|value| (name, value.clone())));
        }
        if let Some(scope) = &config.exchange_scope {
            parameters.push(("scope", scope.join(" ")));
        }
        Ok(JwtAcquisition {
            minting,
            verification,
            acceptance,
            exchange: Exchange {
                token_type: config.exchange_token_type.unwrap_or_default(),
                introspect: config.exchange_introspect,
                parameters,
            },
        })
    }

    /// All settings of it that change an answer. A published key that does not sign changes none.
    pub(super) fn identity(&self, dialect: Dialect, server: &Server) -> Vec<String> {
        let mut parts = Vec::new();
        let mut add = |name: &str, value: &str| parts.push(format!("{name}={value}"));
        if let Some(minting) = &self.minting {
            if let Some(key) = minting.keys.first() {
                add("kid", key.kid());
                add("alg", key.algorithm().as_str());
            }
            add("iss", &minting.issuer);
            add("ttl", &minting.ttl.as_millis().to_string());
            for claim in minting.allow.iter().flatten() {
                add("allow", claim);
            }
            for claim in &minting.deny {
                add("deny", claim);
            }
            add("lists", if minting.allow.is_some() { "allow" } else { "" });
        }
        if let Some(verification) = &self.verification {
            add("verify", "on");
            for audience in verification.audiences.iter().flatten() {
                add("aud", audience);
            }
        }
        if accepts_by_answer(dialect) {
            add("token_type", self.acceptance.kind.as_str());
            for audience in self.acceptance.audiences.iter().flatten() {
                add("answer aud", audience);
            }
        }
        if (self.verification.is_some() || dialect == Dialect::Signed)
            && let Some(jwks) = &server.jwks
        {
            add("jwks", &jwks.identity());
        }
        if dialect == Dialect::Exchange {
            add(
                "token",
                &server
                    .token
                    .as_ref()
                    .map(Endpoint::identity)
                    .unwrap_or_default(),
            );
            add("type", self.exchange.token_type.as_str());
            add(
                "introspect",
                match self.exchange.introspect {
                    None => "auto",
                    Some(true) => "on",
                    Some(false) => "off",
                },
            );
            for (name, value) in &self.exchange.parameters {
                add(name, value);
            }
        }
        parts
    }
}

/// Whether an introspection response is the only evidence of what a token is.
fn accepts_by_answer(dialect: Dialect) -> bool {
    matches!(dialect, Dialect::Mint | Dialect::Signed)
}

/// Whether the gateway mints the JWT that goes upstream.
fn mints(config: &Config) -> bool {
    match config.dialect {
        Dialect::Mint => true,
        Dialect::Signed => config.forward.unwrap_or_default() == Forward::Mint,
        _ => false,
    }
}

fn refuse_unused(config: &Config) -> Result<(), ConfigError> {
    let dialect = config.dialect;
    let set = |of: Use| {
        settings::TABLE
            .iter()
            .filter(|setting| setting.used == of)
            .find(|setting| setting.is_set(config))
            .map(Setting::name)
    };
    let unused = |key: &str, with: &str, mend: &str| {
        let with = if with.is_empty() {
            format!("dialect {}", dialect.as_str())
        } else {
            with.to_owned()
        };
        config.refuse(
            key,
            "",
            &format!("is set but not used with {with}: {mend}, or remove it"),
        )
    };
    if config.forward.is_some() && dialect != Dialect::Signed {
        return Err(unused("forward", "", "set dialect signed"));
    }
    if let Some(key) = set(Use::Minting).filter(|_| !mints(config)) {
        return Err(match dialect {
            Dialect::Signed => unused(key, "forward signed", "set forward mint"),
            _ => unused(key, "", "set dialect mint"),
        });
    }
    if let Some(key) = set(Use::Exchange).filter(|_| dialect != Dialect::Exchange) {
        return Err(unused(key, "", "set dialect exchange"));
    }
    if config.verify && dialect == Dialect::Mint {
        return Err(config.refuse(
            "verify",
            "on",
            "can't be used with dialect mint, where the server hands over no JWT that could be verified: remove it",
        ));
    }
    if accepts_by_answer(dialect) {
        return Ok(());
    }
    if config.token_type.is_some() {
        return Err(unused(
            "token_type",
            "",
            "the server hands over a JWT for an access token only",
        ));
    }
    if config.verify_audience.is_some() && !config.verify {
        return Err(unused("verify_audience", "verify off", "set verify on"));
    }
    Ok(())
}

fn minting(config: &Config, warnings: &mut Vec<String>) -> Result<Minting, ConfigError> {
    let how = match config.dialect {
        Dialect::Signed => "dialect signed with forward mint",
        _ => "dialect mint",
    };
    let missing = |key: &str, what: &str| {
        let other = match config.dialect {
            Dialect::Signed => "; or set forward signed",
            _ => "",
        };
        config.refuse(key, "", &format!("is missing: {how} needs {what}{other}"))
    };
    if config.mint_key.is_empty() {
        return Err(missing(
            "mint_key",
            "a PEM file with the private key that signs, such as one made with: openssl genpkey -algorithm EC -pkeyopt \
             ec_paramgen_curve:P-256 -out key.pem",
        ));
    }
    let Some(issuer) = config.mint_issuer.clone() else {
        return Err(missing(
            "mint_issuer",
            "the name by which APIs know who signed (iss), such as https://gateway.example.com",
        ));
    };
    let mut warn = |text: &str| warnings.push(format!("provider {:?}: {text}", config.name));
    if config.issuer.as_ref().map(Issuer::as_str) == Some(&*issuer) {
        warn(
            "mint_issuer is the authorization server's issuer: whoever verifies a JWT by its issuer would look for our \
             key there; give the gateway a name of its own",
        );
    }
    let ttl = config.mint_ttl.unwrap_or(MINT_TTL);
    if ttl < config.cache_ttl.saturating_add(config.stale_if_error) {
        warn(
            "mint_ttl is shorter than cache_ttl and stale_if_error together: tokens are remembered for no longer than \
             that, and APIs get JWTs that are about to expire; raise it",
        );
    }
    if config.mint_claims.is_some() && config.mint_claims_except.is_some() {
        return Err(config.refuse(
            "mint_claims",
            "",
            "and mint_claims_except are both set: remove one of the two",
        ));
    }
    let allow = config.mint_claims.clone();
    let deny = config.mint_claims_except.clone().unwrap_or_default();
    if let Some(claim) = deny.iter().find(|claim| OURS.contains(&claim.as_str())) {
        return Err(config.refuse(
            "mint_claims_except",
            &format!("{claim:?}"),
            "names a claim that is the gateway's own, and every JWT that it mints has it: remove that",
        ));
    }
    let keys = signing_keys(config, warnings)?;
    Ok(Minting {
        jwks: jwks(&keys).into(),
        keys,
        issuer,
        ttl,
        allow,
        deny,
    })
}

fn signing_keys(
    config: &Config,
    warnings: &mut Vec<String>,
) -> Result<Vec<SigningKey>, ConfigError> {
    let mut keys: Vec<SigningKey> = Vec::with_capacity(config.mint_key.len());
    let mut rsa = false;
    for path in &config.mint_key {
        let refuse = |refusal: &str| config.refuse("mint_key", &format!("{path:?}"), refusal);
        let (pem, others_may_read) =
            build::read_file(path, MAX_KEY_FILE).map_err(|why| refuse(&why.to_string()))?;
        if others_may_read {
            warnings.push(format!(
                "provider {:?}: mint_key {path:?} can be read by every user of this machine; chmod o-r it",
                config.name
            ));
        }
        let mut key = SigningKey::from_pem(&pem)
            .map_err(|error| refuse(&format!("can't be used: {error}")))?;
        if key.algorithm() == Algorithm::RS256 {
            rsa = true;
            if let Some(algorithm) = config.mint_alg {
                key = key
                    .with_algorithm(algorithm)
                    .map_err(|error| refuse(&format!("can't be used with mint_alg: {error}")))?;
            }
        }
        if keys.iter().any(|known| known.kid() == key.kid()) {
            return Err(refuse("holds a key that is there already: remove it"));
        }
        keys.push(key);
    }
    if config.mint_alg.is_some() && !rsa {
        return Err(config.refuse(
            "mint_alg",
            "",
            "is set, but there is no RSA key in mint_key, and any other key has but one algorithm: remove it",
        ));
    }
    Ok(keys)
}

/// The algorithms of RSA keys: only an RSA key leaves a choice between algorithms.
pub(super) const RSA_ALGORITHMS: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
];
