//! Verifies a JWT with jwt-simple, and prints its claims. For tests of the JWTs that nginx sends and the keys that it
//! publishes.
//!
//! Usage: verify JWKS ISSUER < JWT
//!
//! JWKS is a file. A JWT that does not verify is an error.

use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jwt_simple::prelude::*;
use serde_json::{Map, Value};

type Error = Box<dyn std::error::Error>;

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let (Some(jwks), Some(issuer)) = (arguments.next(), arguments.next()) else {
        return Err("usage: verify JWKS ISSUER < JWT".into());
    };
    let jwks: Value = serde_json::from_slice(&std::fs::read(jwks)?)?;
    let jwt = std::io::read_to_string(std::io::stdin())?;
    let jwt = jwt.trim();

    let metadata = Token::decode_metadata(jwt)?;
    let kid = metadata.key_id().ok_or("the JWT has no kid")?;
    let jwk = jwks["keys"]
        .as_array()
        .and_then(|keys| keys.iter().find(|jwk| jwk["kid"] == kid))
        .ok_or("the JWKS has no such key")?;
    let part = |name: &str| -> Result<Vec<u8>, Error> {
        let text = jwk[name].as_str().ok_or(format!("the key has no {name}"))?;
        Ok(URL_SAFE_NO_PAD.decode(text)?)
    };
    let options = Some(VerificationOptions {
        allowed_issuers: Some(HashSet::from([issuer])),
        required_signature_type: Some("at+jwt".to_owned()),
        ..Default::default()
    });
    // The algorithm is that of the key, and not that of the JWT's header.
    let claims: JWTClaims<Map<String, Value>> = match jwk["alg"].as_str() {
        Some("ES256") => {
            ES256PublicKey::from_bytes(&[&[4][..], &part("x")?, &part("y")?].concat())?
                .verify_token(jwt, options)?
        }
        Some("EdDSA") => Ed25519PublicKey::from_bytes(&part("x")?)?.verify_token(jwt, options)?,
        Some("PS256") => {
            PS256PublicKey::from_components(&part("n")?, &part("e")?)?.verify_token(jwt, options)?
        }
        Some("RS256") => {
            RS256PublicKey::from_components(&part("n")?, &part("e")?)?.verify_token(jwt, options)?
        }
        other => return Err(format!("a key for {other:?}").into()),
    };
    println!("{}", serde_json::to_string(&claims)?);
    Ok(())
}
