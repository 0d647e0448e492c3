//! Fuzz target `verify`: the verification of JWTs.

use super::message::{KEYS, with_jwts};
use super::{NOW, assert_fit_for_a_log};
use crate::jwt::{Algorithm, Expected, verify as verify_jwt};

/// A JWT, in which `~header~payload~` stands for one that is signed with the right key.
pub fn verify(input: &[u8]) {
    let (jwt, signed) = with_jwts(input);
    let Ok(jwt) = std::str::from_utf8(&jwt) else {
        return;
    };
    let expected = Expected {
        algorithms: Algorithm::ALL,
        types: Some(&["at+jwt", ""]),
        issuer: Some("https://as.example.com"),
        audiences: Some(&["api", "other"]),
        now: NOW,
        leeway: 60,
    };
    match verify_jwt(jwt, &KEYS, &expected) {
        Ok(claims) => {
            assert!(signed, "nobody else can sign");
            assert_eq!(claims["iss"], "https://as.example.com");
            let aud = &claims["aud"];
            let named = |audience: &str| {
                aud == audience
                    || aud
                        .as_array()
                        .is_some_and(|all| all.iter().any(|one| one == audience))
            };
            assert!(named("api") || named("other"));
            if let Some(exp) = claims.get("exp").and_then(|exp| exp.as_i64()) {
                assert!(exp > NOW);
            }
            if let Some(nbf) = claims.get("nbf").and_then(|nbf| nbf.as_i64()) {
                assert!(nbf <= NOW + 60);
            }
            // Every bit of the signed text and of the signature counts.
            let at = input.len() % jwt.len();
            let mut other = jwt.to_owned().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(other).expect("it is ASCII");
            assert!(
                verify_jwt(&other, &KEYS, &expected).is_err(),
                "byte {at} does not count"
            );
        }
        Err(error) => assert_fit_for_a_log(&error.to_string()),
    }
}
