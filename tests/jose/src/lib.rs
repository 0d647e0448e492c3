//! Test data for third-party JOSE libraries: a JWKS, and a minted JWT for each of its keys.

use std::time::Duration;

use phantom_token::clock;
use phantom_token::jwt::{Algorithm, SigningError, SigningKey, jwks, minted_claims};
use serde_json::{Map, Value, json};

/// The issuer of the JWTs.
pub const ISSUER: &str = "https://gateway.example.com";
/// The audience of the JWTs.
pub const AUDIENCE: &str = "https://api.example.com";

/// An RSA key, an EC key of each curve and an Ed25519 key, made for these tests only.
const KEYS: [(&str, &[Algorithm]); 4] = [
    (
        include_str!("../keys/rsa.pem"),
        &[
            Algorithm::RS256,
            Algorithm::RS384,
            Algorithm::RS512,
            Algorithm::PS256,
            Algorithm::PS384,
            Algorithm::PS512,
        ],
    ),
    (include_str!("../keys/p-256.pem"), &[Algorithm::ES256]),
    (include_str!("../keys/p-384.pem"), &[Algorithm::ES384]),
    (include_str!("../keys/ed25519.pem"), &[Algorithm::EdDSA]),
];

/// `{"issuer", "audience", "jwks", "jwts": {alg: JWT}, "thumbprints": {alg: thumbprint of its key}}`, valid for five minutes from now.
///
/// # Errors
/// [`SigningError`] when one of the keys can't be used.
pub fn minted() -> Result<Value, SigningError> {
    let mut keys = Vec::new();
    let mut thumbprints = Map::new();
    for (pem, algorithms) in KEYS {
        for &algorithm in algorithms {
            let key = SigningKey::from_pem(pem.as_bytes())?.with_algorithm(algorithm)?;
            thumbprints.insert(algorithm.to_string(), key.kid().into());
            keys.push(key.with_kid(algorithm.as_str()));
        }
    }
    let mut jwts = Map::new();
    for key in &keys {
        let introspection = json!({
            "active": true, "sub": "alice", "scope": "read write", "client_id": "web", "aud": AUDIENCE,
            "jti": "the token's", "role": {"name": "\u{e9}\u{1f600}"},
        });
        let Value::Object(introspection) = introspection else {
            unreachable!("it is written as an object")
        };
        let lifetime = Duration::from_secs(300);
        let now = clock::now().unix;
        let claims = minted_claims(introspection, ISSUER, now, lifetime, None, &[])?;
        let jwt = key.sign(Some("at+jwt"), &claims)?;
        jwts.insert(key.algorithm().to_string(), jwt.into());
    }
    Ok(json!({
        "issuer": ISSUER,
        "audience": AUDIENCE,
        "jwks": serde_json::from_str::<Value>(&jwks(&keys)).unwrap_or_default(),
        "jwts": jwts,
        "thumbprints": thumbprints,
    }))
}
