//! Fuzz target `jwks`: the keys that an authorization server publishes (RFC 7517).

use serde_json::Value;

use super::{assert_fit_for_a_log, is_unambiguous};
use crate::jwt::{KeySet, KeySetError, MAX_KEYS};

/// A JWKS.
pub fn jwks(json: &[u8]) {
    match KeySet::parse(json) {
        Ok(set) => {
            assert!(is_unambiguous(json));
            let document: Value = serde_json::from_slice(json).expect("it is JSON");
            let keys = document["keys"].as_array().expect("it has keys");
            let ignored = set.ignored().map_or(0, |(count, _)| count);
            assert!(set.len() > 0 && keys.len() <= MAX_KEYS);
            assert_eq!(set.len() + ignored, keys.len());
            let usable = keys.iter().filter(|key| may_verify(key)).count();
            assert!(
                set.len() <= usable,
                "a key is used that is not to verify with"
            );
            assert_fit_for_a_log(&format!("{set:?}"));
        }
        Err(error) => {
            assert_fit_for_a_log(&error.to_string());
            if let KeySetError::TooManyKeys(count) = error {
                assert!(count > MAX_KEYS);
            }
        }
    }
}

/// Whether a key's own members allow it for verification.
fn may_verify(key: &Value) -> bool {
    let private = ["d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"];
    let known = match key["kty"].as_str() {
        Some("RSA") => true,
        Some("EC") => ["P-256", "P-384"].iter().any(|curve| key["crv"] == **curve),
        Some("OKP") => key["crv"] == "Ed25519",
        _ => false,
    };
    known
        && private.iter().all(|name| key[name].is_null())
        && (key["use"].is_null() || key["use"] == "sig")
        && (key["key_ops"].as_array()).is_none_or(|ops| ops.iter().any(|op| op == "verify"))
}
