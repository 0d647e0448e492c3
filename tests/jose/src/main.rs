//! Verifies a JWT with josekit, which does its cryptography with OpenSSL, and prints its header and its claims.
//!
//! Usage: verify JWKS ISSUER < JWT
//!
//! JWKS is a file. What does not verify ends with an error.

use std::error::Error;
use std::io;
use std::time::SystemTime;

use josekit::jwk::{Jwk, JwkSet};
use josekit::jws::{ES256, EdDSA, JwsVerifier, PS256, RS256};
use josekit::jwt::{self, JwtPayloadValidator};
use serde_json::json;

fn verifier(jwk: &Jwk) -> Result<Box<dyn JwsVerifier>, Box<dyn Error>> {
    Ok(match jwk.algorithm() {
        Some("ES256") => Box::new(ES256.verifier_from_jwk(jwk)?),
        Some("EdDSA") => Box::new(EdDSA.verifier_from_jwk(jwk)?),
        Some("PS256") => Box::new(PS256.verifier_from_jwk(jwk)?),
        Some("RS256") => Box::new(RS256.verifier_from_jwk(jwk)?),
        other => return Err(format!("a key of algorithm {other:?}").into()),
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(jwks), Some(issuer)) = (arguments.next(), arguments.next()) else {
        return Err("usage: verify JWKS ISSUER < JWT".into());
    };
    let jwks = JwkSet::from_bytes(std::fs::read(jwks)?)?;
    let verifiers = jwks
        .keys()
        .into_iter()
        .map(|jwk| Ok((jwk.key_id().unwrap_or_default().to_owned(), verifier(jwk)?)))
        .collect::<Result<Vec<_>, Box<dyn Error>>>()?;

    let token = io::read_to_string(io::stdin())?;
    let (claims, header) = jwt::decode_with_verifier_selector(token.trim(), |header| {
        let found = verifiers
            .iter()
            .find(|(kid, _)| header.key_id() == Some(kid));
        Ok(found.map(|(_, verifier)| &**verifier))
    })?;
    let mut wanted = JwtPayloadValidator::new();
    wanted.set_base_time(SystemTime::now());
    wanted.set_issuer(issuer);
    wanted.validate(&claims)?;
    println!(
        "{}",
        json!({"header": header.claims_set(), "claims": claims.claims_set()})
    );
    Ok(())
}
