//! Verifies our JWTs with jwt-simple.

use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jwt_simple::prelude::*;
use serde_json::{Map, Value};

type Claims = Map<String, Value>;

fn verified(alg: &str, jwk: &Value, jwt: &str) -> Result<JWTClaims<Claims>, jwt_simple::Error> {
    let part = |name: &str| {
        URL_SAFE_NO_PAD
            .decode(
                jwk[name]
                    .as_str()
                    .unwrap_or_else(|| panic!("{name} in {jwk}")),
            )
            .unwrap()
    };
    let point = || [&[4][..], &part("x"), &part("y")].concat();
    let options = || {
        Some(VerificationOptions {
            allowed_issuers: Some(HashSet::from([jose_interop::ISSUER.to_owned()])),
            allowed_audiences: Some(HashSet::from([jose_interop::AUDIENCE.to_owned()])),
            required_subject: Some("alice".to_owned()),
            required_key_id: Some(alg.to_owned()),
            required_signature_type: Some("at+jwt".to_owned()),
            ..Default::default()
        })
    };
    match alg {
        "RS256" => {
            RS256PublicKey::from_components(&part("n"), &part("e"))?.verify_token(jwt, options())
        }
        "RS384" => {
            RS384PublicKey::from_components(&part("n"), &part("e"))?.verify_token(jwt, options())
        }
        "RS512" => {
            RS512PublicKey::from_components(&part("n"), &part("e"))?.verify_token(jwt, options())
        }
        "PS256" => {
            PS256PublicKey::from_components(&part("n"), &part("e"))?.verify_token(jwt, options())
        }
        "PS384" => {
            PS384PublicKey::from_components(&part("n"), &part("e"))?.verify_token(jwt, options())
        }
        "PS512" => {
            PS512PublicKey::from_components(&part("n"), &part("e"))?.verify_token(jwt, options())
        }
        "ES256" => ES256PublicKey::from_bytes(&point())?.verify_token(jwt, options()),
        "ES384" => ES384PublicKey::from_bytes(&point())?.verify_token(jwt, options()),
        "EdDSA" => Ed25519PublicKey::from_bytes(&part("x"))?.verify_token(jwt, options()),
        _ => panic!("{alg} is new: verify it here"),
    }
}

#[test]
fn jwt_simple_verifies_what_we_sign_and_nothing_that_was_changed() {
    let minted = jose_interop::minted().unwrap();
    let jwts = minted["jwts"].as_object().unwrap();
    assert_eq!(jwts.len(), 9);
    for (alg, jwt) in jwts {
        let jwk = minted["jwks"]["keys"]
            .as_array()
            .unwrap()
            .iter()
            .find(|jwk| jwk["kid"] == *alg)
            .unwrap();
        assert_eq!(jwk["alg"], *alg);
        let jwt = jwt.as_str().unwrap();
        let claims = verified(alg, jwk, jwt).unwrap();
        assert_eq!(claims.custom["client_id"], "web");
        assert_eq!(claims.custom["role"]["name"], "\u{e9}\u{1f600}");
        assert!(!claims.custom.contains_key("active"));

        let (message, signature) = jwt.rsplit_once('.').unwrap();
        let mut signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        signature[7] ^= 1;
        let changed = format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature));
        assert!(verified(alg, jwk, &changed).is_err(), "{alg}");
    }
}
