//! Keys for tests, one of each kind, made when they are first asked for.

use std::sync::LazyLock;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair,
    RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::{Algorithm, KeySet, SigningKey, jwks};

/// Bytes in PEM, as OpenSSL writes them.
pub fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<_> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

/// A new key in PKCS#8.
pub fn pkcs8(algorithm: Algorithm) -> Vec<u8> {
    let ec = |curve| {
        let pair = EcdsaKeyPair::generate(curve).unwrap();
        pair.to_pkcs8v1().unwrap().as_ref().to_vec()
    };
    match algorithm {
        Algorithm::ES256 => ec(&ECDSA_P256_SHA256_FIXED_SIGNING),
        Algorithm::ES384 => ec(&ECDSA_P384_SHA384_FIXED_SIGNING),
        Algorithm::EdDSA => {
            let pair = Ed25519KeyPair::generate().unwrap();
            pair.to_pkcs8v1().unwrap().as_ref().to_vec()
        }
        _ => {
            let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
            let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
            der.as_ref().to_vec()
        }
    }
}

fn new(algorithm: Algorithm) -> SigningKey {
    SigningKey::from_pem(pem("PRIVATE KEY", &pkcs8(algorithm)).as_bytes()).unwrap()
}

static P256: LazyLock<SigningKey> = LazyLock::new(|| new(Algorithm::ES256));
static P384: LazyLock<SigningKey> = LazyLock::new(|| new(Algorithm::ES384));
static ED25519: LazyLock<SigningKey> = LazyLock::new(|| new(Algorithm::EdDSA));
static RSA: LazyLock<SigningKey> = LazyLock::new(|| new(Algorithm::RS256));

/// The key of its kind, always the same one.
pub fn key(algorithm: Algorithm) -> SigningKey {
    let key: &SigningKey = match algorithm {
        Algorithm::ES256 => &P256,
        Algorithm::ES384 => &P384,
        Algorithm::EdDSA => &ED25519,
        _ => &RSA,
    };
    key.clone().with_algorithm(algorithm).unwrap()
}

/// The key set that verifies signatures of these keys.
pub fn key_set(keys: &[SigningKey]) -> KeySet {
    KeySet::parse(jwks(keys).as_bytes()).unwrap()
}

/// The members of an object.
pub fn members(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => panic!("not an object"),
    }
}
