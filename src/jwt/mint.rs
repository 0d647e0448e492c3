//! Claims of the JWTs that we sign ourselves.

use std::time::Duration;

use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use super::claims::{present, seconds};
use super::sign::{NO_RANDOM_BYTES, SigningError};
use super::{ClaimsError, check_compact};

/// The claims of a JWT that stands for an opaque token, made from an introspection response (RFC 7662 §2.2) and in the
/// form of RFC 9068 §2.2.
///
/// The members of the response are kept unchanged, except for `active`, members that are `null`, and members that are
/// themselves a JWT: those would be credentials in the hands of every API. Where `allow` is given, only the members
/// that it names are kept of the rest, and in any case none that `deny` names. `iss`, `iat`, `exp` and `jti` are always
/// ours, in spite of the server and both lists: `exp` is `now` plus `lifetime_cap`, or the token's own where that is
/// earlier.
///
/// Nothing is made up: a response without `sub` or `aud` gives a JWT without.
///
/// # Errors
/// [`SigningError`] when the response's `exp` is not a number of seconds, and when the system has no random
/// bytes.
pub fn minted_claims(
    introspection: Map<String, Value>,
    issuer: &str,
    now: i64,
    lifetime_cap: Duration,
    allow: Option<&[String]>,
    deny: &[String],
) -> Result<Map<String, Value>, SigningError> {
    let mut exp = now.saturating_add_unsigned(lifetime_cap.as_secs());
    if let Some(token) = present(&introspection, "exp") {
        const ERROR: ClaimsError = ClaimsError("exp is not a number of seconds");
        exp = exp.min(seconds(token).ok_or_else(|| SigningError::new(ERROR.0))?);
    }
    let is_jwt = |value: &Value| {
        value
            .as_str()
            .is_some_and(|text| check_compact(text.trim().as_bytes()).is_ok())
    };
    let kept = |name: &String, value: &Value| {
        name != "active"
            && !value.is_null()
            && !is_jwt(value)
            && allow.is_none_or(|allow| allow.contains(name))
            && !deny.contains(name)
    };
    let mut claims: Map<String, Value> = introspection
        .into_iter()
        .filter(|(name, value)| kept(name, value))
        .collect();
    for (name, value) in [
        ("iss", issuer.into()),
        ("iat", now.into()),
        ("exp", exp.into()),
        ("jti", random_id()?.into()),
    ] {
        claims.insert(name.to_owned(), value);
    }
    Ok(claims)
}

/// The claims with which a client authenticates at a server: RFC 7523 §3, OpenID Connect Core §9. `audience` is the
/// name that the server expects, its issuer or one of its endpoints; no server accepts the same `jti` twice.
///
/// # Errors
/// [`SigningError`] when the system has no random bytes.
pub fn client_assertion_claims(
    client_id: &str,
    audience: &str,
    now: i64,
    lifetime: Duration,
) -> Result<Map<String, Value>, SigningError> {
    let claims = json!({
        "iss": client_id,
        "sub": client_id,
        "aud": audience,
        "iat": now,
        "exp": now.saturating_add_unsigned(lifetime.as_secs()),
        "jti": random_id()?,
    });
    match claims {
        Value::Object(claims) => Ok(claims),
        _ => Ok(Map::new()),
    }
}

/// 128 random bits, in base64url.
fn random_id() -> Result<String, SigningError> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).map_err(|_| SigningError::new(NO_RANDOM_BYTES))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::super::test_jwt;
    use super::super::testing::members;
    use super::*;

    const NOW: i64 = 1_700_000_000;
    const CAP: Duration = Duration::from_secs(300);

    fn minted(introspection: Value, allow: Option<&[&str]>, deny: &[&str]) -> Map<String, Value> {
        let owned = |names: &[&str]| {
            names
                .iter()
                .map(|&name| name.to_owned())
                .collect::<Vec<_>>()
        };
        let allow = allow.map(owned);
        minted_claims(
            members(introspection),
            "https://gateway.example.com",
            NOW,
            CAP,
            allow.as_deref(),
            &owned(deny),
        )
        .unwrap()
    }

    #[test]
    fn what_the_server_says_of_the_token_is_kept_and_the_rest_is_ours() {
        let mut claims = minted(
            json!({
                "active": true, "sub": "alice", "scope": "read write", "client_id": "web", "aud": ["api"],
                "username": "alice", "exp": NOW + 60, "iat": NOW - 10, "nbf": NOW - 10, "jti": "theirs",
                "iss": "https://as.example.com", "role": {"n": [1.5]}, "cnf": {"jkt": "x"}, "nothing": null,
            }),
            None,
            &[],
        );
        let jti = claims.remove("jti").unwrap();
        assert_eq!(jti.as_str().unwrap().len(), 22);
        assert_eq!(
            Value::Object(claims),
            json!({
                "sub": "alice", "scope": "read write", "client_id": "web", "aud": ["api"], "username": "alice",
                "iss": "https://gateway.example.com", "iat": NOW, "exp": NOW + 60, "nbf": NOW - 10,
                "role": {"n": [1.5]}, "cnf": {"jkt": "x"},
            })
        );
    }

    #[test]
    fn it_is_valid_for_no_longer_than_the_token_nor_than_the_cap() {
        let exp = |exp: Value| minted(json!({"exp": exp}), None, &[])["exp"].clone();
        assert_eq!(exp(json!(NOW + 10)), NOW + 10);
        assert_eq!(exp(json!(NOW as f64 + 10.9)), NOW + 10);
        assert_eq!(exp(json!((NOW + 10).to_string())), NOW + 10);
        assert_eq!(exp(json!(NOW - 10)), NOW - 10);
        assert_eq!(exp(json!(NOW + 301)), NOW + 300);
        assert_eq!(exp(json!(u64::MAX)), NOW + 300);
        assert_eq!(exp(Value::Null), NOW + 300);
        assert_eq!(minted(json!({}), None, &[])["exp"], NOW + 300);
        for exp in [json!("soon"), json!(true), json!([])] {
            let introspection = members(json!({"exp": exp}));
            assert!(minted_claims(introspection, "x", NOW, CAP, None, &[]).is_err());
        }
    }

    #[test]
    fn no_credential_is_handed_to_every_api() {
        let claims = minted(
            json!({"jwt": test_jwt("{}"), "id_token": format!("{}\n", test_jwt("{}")), "sub": "a.b.c"}),
            None,
            &[],
        );
        assert!(!claims.contains_key("jwt") && !claims.contains_key("id_token"));
        assert_eq!(claims["sub"], "a.b.c");
    }

    #[test]
    fn the_lists_choose_among_what_the_server_says_and_ours_stay() {
        let names = |allow: Option<&[&str]>, deny: &[&str]| {
            let mut names: Vec<_> = minted(
                json!({"active": true, "sub": "a", "email": "e", "scope": "s", "exp": NOW + 9}),
                allow,
                deny,
            )
            .into_iter()
            .map(|(name, _)| name)
            .collect();
            names.sort();
            names.join(" ")
        };
        assert_eq!(names(None, &[]), "email exp iat iss jti scope sub");
        assert_eq!(names(None, &["email"]), "exp iat iss jti scope sub");
        assert_eq!(
            names(Some(&["sub", "email"]), &["email"]),
            "exp iat iss jti sub"
        );
        assert_eq!(names(Some(&[]), &[]), "exp iat iss jti");
        assert_eq!(
            names(Some(&["active"]), &["iss", "iat", "exp", "jti"]),
            "exp iat iss jti"
        );
        // An `exp` that is not in the allow-list does not make the token last longer.
        assert_eq!(
            minted(json!({"exp": NOW + 9}), Some(&[]), &["exp"])["exp"],
            NOW + 9
        );
    }

    #[test]
    fn no_two_have_the_same_jti() {
        let one = || minted(json!({}), None, &[])["jti"].clone();
        assert_ne!(one(), one());
        let one = || client_assertion_claims("c", "a", NOW, CAP).unwrap()["jti"].clone();
        assert_ne!(one(), one());
    }

    #[test]
    fn a_client_assertion_says_what_rfc_7523_asks_for() {
        let mut claims = client_assertion_claims(
            "gateway",
            "https://as.example.com",
            NOW,
            Duration::from_secs(60),
        )
        .unwrap();
        assert_eq!(claims.remove("jti").unwrap().as_str().unwrap().len(), 22);
        assert_eq!(
            Value::Object(claims),
            json!({
                "iss": "gateway", "sub": "gateway", "aud": "https://as.example.com", "iat": NOW, "exp": NOW + 60,
            })
        );
    }
}
