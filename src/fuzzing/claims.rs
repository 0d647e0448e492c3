//! Fuzz target `claims`: JWTs in compact form, and claims.

use serde_json::Value;

use super::message::{decoded, with_jwts};
use super::{assert_fit_for_a_log, is_unambiguous};
use crate::gateway::requirements::TokenRequirements;
use crate::jwt::{Claims, check_compact, reread};

/// A JWT, in which `~header~payload~` may stand for a signed one, or an object of claims; in a first line the scopes that
/// a location requires.
pub fn claims(input: &[u8]) {
    let end = input.iter().position(|&byte| byte == b'\n').unwrap_or(0);
    let (text, _) = with_jwts(input[end..].trim_ascii());
    let claims = match check_compact(&text) {
        Ok(compact) => {
            let jwt = compact.as_str();
            assert_eq!(jwt.as_bytes(), text, "nothing is cut off");
            assert!(
                jwt.bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
            );
            reread(jwt, "")
        }
        Err(error) => {
            assert_fit_for_a_log(&error.to_string());
            match std::str::from_utf8(&text) {
                Ok(text) => Claims::from_json(text),
                Err(_) => return,
            }
        }
    };
    let Ok(claims) = claims else {
        return;
    };
    match check_compact(&text) {
        Ok(jwt) => {
            for part in jwt.as_str().split('.').take(2) {
                assert!(is_unambiguous(&decoded(part)));
            }
        }
        Err(_) => assert!(is_unambiguous(&text)),
    }
    let json = claims.json();
    assert!(!json.contains('\0'));
    let again = Claims::from_json(json).expect("claims are read as they were written");
    assert_eq!(again.json(), json);
    assert_eq!(again.heap_size(), claims.heap_size());
    assert_eq!(
        (again.exp, again.nbf, &again.scope),
        (claims.exp, claims.nbf, &claims.scope)
    );
    assert_eq!((&again.aud, &again.sub), (&claims.aud, &claims.sub));
    let document: Value = serde_json::from_str(json).expect("it is JSON");
    assert_eq!(document["exp"].as_i64(), claims.exp);
    assert_eq!(claims.is_bound(), !document["cnf"].is_null());

    let mut required = TokenRequirements::default();
    let Ok(list) = std::str::from_utf8(&input[..end]) else {
        return;
    };
    if required.add_scope(list).is_err() {
        assert!(required.is_empty());
        return;
    }
    let granted: Vec<_> = claims.scope.split_ascii_whitespace().collect();
    let lacks = list
        .split_ascii_whitespace()
        .find(|scope| !granted.contains(scope))
        .map(|scope| format!("scope:{scope}"));
    let denied = required.check(&claims, 0, &mut |_| None).err();
    assert_eq!(denied.map(|denial| denial.reason.to_owned()), lacks);
    assert!(
        !required
            .scopes_advertised()
            .contains(['"', '\\', '\r', '\n'])
    );
}
