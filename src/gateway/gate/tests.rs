use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::jwt::testing::key;
use crate::jwt::{Algorithm, Claims, check_compact, test_jwt};

const NOW: i64 = 1_700_000_000;
const TOKEN: &str = "8f3c0a52";
const URL: &str = "https://api.example.com/orders";

fn active(claims: Value) -> Active {
    let jwt = test_jwt(&claims.to_string());
    let claims = Claims::from_json(&claims.to_string()).unwrap();
    Active::new(&check_compact(jwt.as_bytes()).unwrap(), claims)
}

fn gate(parts: &[(&str, &str)]) -> Gate {
    let mut gate = Gate::default();
    for (key, value) in parts {
        gate.set(key, value).unwrap();
    }
    gate
}

fn bearer() -> Presentation<'static> {
    Presentation {
        authorization: Some(b"Bearer 8f3c0a52"),
        ..Presentation::default()
    }
}

/// What a gate says to a token when every proof is the first.
fn say(gate: &Gate, token: Value, presented: Option<&Presentation<'_>>) -> Result<(), Refusal> {
    gate.check(&active(token), presented, NOW, &mut |_, _| FirstUse::First)
        .map(drop)
}

fn reason(gate: &Gate, token: Value, presented: Option<&Presentation<'_>>) -> String {
    say(gate, token, presented).map_or_else(|refusal| refusal.reason.into(), |()| "ok".into())
}

/// A proof of the key that [`bound`] tokens are bound to.
fn proof(nonce: Option<&str>) -> String {
    let key = key(Algorithm::ES256);
    let mut jwk = key.public_jwk();
    for name in ["kid", "alg", "use"] {
        jwk.as_object_mut().unwrap().remove(name);
    }
    let header = json!({"typ": "dpop+jwt", "alg": "ES256", "jwk": jwk});
    let ath = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, TOKEN.as_bytes()));
    let mut claims =
        json!({"jti": "e1j3V_bKic8-LAEB", "htm": "GET", "htu": URL, "iat": NOW, "ath": ath});
    if let Some(nonce) = nonce {
        claims["nonce"] = nonce.into();
    }
    key.sign_parts(header.to_string().as_bytes(), claims.to_string().as_bytes())
}

fn bound() -> Value {
    json!({"cnf": {"jkt": key(Algorithm::ES256).kid()}})
}

fn proven(proof: &str) -> Presentation<'_> {
    Presentation {
        authorization: Some(b"DPoP 8f3c0a52"),
        method: b"GET",
        url: URL.as_bytes(),
        proof: Proof::One(proof.as_bytes()),
        client_certificate: None,
    }
}

#[test]
fn a_gate_that_asks_for_nothing_lets_every_active_token_pass_that_is_not_bound() {
    let gate = Gate::default();
    assert_eq!(say(&gate, json!({}), None), Ok(()));
    assert_eq!(say(&gate, json!({}), Some(&bearer())), Ok(()));
    for cnf in [
        json!({"jkt": "x"}),
        json!({"x5t#S256": "x"}),
        json!({}),
        json!("x"),
    ] {
        for presented in [None, Some(&Presentation::default()), Some(&bearer())] {
            let refusal = say(&gate, json!({"cnf": cnf}), presented).unwrap_err();
            assert_eq!(
                (refusal.http_status, refusal.error),
                (401, Some("invalid_token"))
            );
        }
    }
}

#[test]
fn a_refusal_has_everything_that_the_answer_needs() {
    let gate = gate(&[
        ("realm", "the api"),
        (
            "resource_metadata",
            "https://api.example.com/.well-known/oauth-protected-resource",
        ),
        ("scopes", "read  write"),
        ("audience", "api"),
        ("acr", "gold"),
    ]);
    let start = r#"Bearer realm="the api""#;
    let end =
        r#", resource_metadata="https://api.example.com/.well-known/oauth-protected-resource""#;
    for (refusal, http_status, error, reason, challenge) in [
        (
            gate.without_token(None),
            401,
            None,
            "missing",
            r#", scope="read write""#,
        ),
        (
            gate.inactive(None),
            401,
            Some("invalid_token"),
            "inactive",
            r#", error="invalid_token""#,
        ),
        (
            say(&gate, json!({"scope": "read write"}), None).unwrap_err(),
            401,
            Some("invalid_token"),
            "audience",
            r#", error="invalid_token""#,
        ),
        (
            say(&gate, json!({"scope": "read", "aud": "api"}), None).unwrap_err(),
            403,
            Some("insufficient_scope"),
            "scope:write",
            r#", error="insufficient_scope", scope="read write""#,
        ),
        (
            say(&gate, json!({"scope": "write read", "aud": "api"}), None).unwrap_err(),
            401,
            Some("insufficient_user_authentication"),
            "acr",
            r#", error="insufficient_user_authentication", acr_values="gold""#,
        ),
    ] {
        assert_eq!(
            refusal,
            Refusal {
                http_status,
                error,
                reason: reason.into(),
                challenge: Some(format!("{start}{challenge}{end}")),
                dpop_nonce: None,
            }
        );
    }
    let good = json!({"scope": "write read", "aud": "api", "acr": "gold"});
    assert_eq!(say(&gate, good, None), Ok(()));
}

#[test]
fn what_is_no_token_is_told_apart_from_none() {
    let gate = Gate::default();
    for (authorization, http_status, reason) in [
        (None, 401, "missing"),
        (Some(&b"Basic YTpi"[..]), 401, "missing"),
        (Some(b"Bearer a b"), 400, "malformed"),
        (Some(b"DPoP"), 400, "malformed"),
        (Some(b"Bearer abc"), 401, "missing"),
    ] {
        let presented = Presentation {
            authorization,
            ..Presentation::default()
        };
        let refusal = gate.without_token(Some(&presented));
        assert_eq!(
            (refusal.http_status, &*refusal.reason),
            (http_status, reason)
        );
    }
    let dpop = Presentation {
        authorization: Some(b"DPoP abc"),
        ..Presentation::default()
    };
    let challenge = gate.inactive(Some(&dpop)).challenge.unwrap();
    assert!(
        challenge.starts_with("DPoP error=\"invalid_token\", algs=\""),
        "{challenge}"
    );
}

#[test]
fn a_bound_token_passes_with_its_proof_and_with_nothing_less() {
    let gate = Gate::default();
    let proof = proof(None);
    let good = proven(&proof);
    assert_eq!(say(&gate, bound(), Some(&good)), Ok(()));
    for (presented, reason_wanted) in [
        (
            Presentation {
                authorization: None,
                ..good
            },
            "presentation_missing",
        ),
        (
            Presentation {
                authorization: Some(b"Basic YTpi"),
                ..good
            },
            "presentation_missing",
        ),
        (
            Presentation {
                authorization: Some(b"Bearer 8f3c0a52"),
                ..good
            },
            "scheme",
        ),
        (
            Presentation {
                authorization: Some(b"DPoP other"),
                ..good
            },
            "proof_ath",
        ),
        (
            Presentation {
                method: b"",
                ..good
            },
            "proof_htm",
        ),
        (
            Presentation {
                method: b"POST",
                ..good
            },
            "proof_htm",
        ),
        (Presentation { url: b"", ..good }, "proof_htu"),
        (
            Presentation {
                url: b"https://api.example.com/other",
                ..good
            },
            "proof_htu",
        ),
        (
            Presentation {
                proof: Proof::None,
                ..good
            },
            "proof_missing",
        ),
        (
            Presentation {
                proof: Proof::Several,
                ..good
            },
            "proof_several",
        ),
        (
            Presentation {
                proof: Proof::One(b"x"),
                ..good
            },
            "proof_malformed",
        ),
    ] {
        assert_eq!(reason(&gate, bound(), Some(&presented)), reason_wanted);
    }
    assert_eq!(reason(&gate, bound(), None), "presentation_missing");
    // Nor does the proof of a key let another token in.
    assert_eq!(
        reason(&gate, json!({"cnf": {"jkt": "other"}}), Some(&good)),
        "proof_key"
    );
    assert_eq!(reason(&gate, json!({}), Some(&good)), "not_bound");
}

#[test]
fn a_url_that_was_made_with_a_host_that_is_none_is_400() {
    let gate = gate(&[("realm", "orders"), ("dpop_nonce", "on")]);
    let proof = proof(None);
    for url in [
        "https://api.example.com?/orders",
        "https://api.example.com#/orders",
        "https://api.example.com",
        "https://?/orders",
        "/orders",
    ] {
        let presented = Presentation {
            url: url.as_bytes(),
            ..proven(&proof)
        };
        let refusal = say(&gate, bound(), Some(&presented)).unwrap_err();
        assert_eq!(refusal.http_status, 400, "{url}");
        assert_eq!(&*refusal.reason, "host");
        assert_eq!(refusal.error, Some("invalid_request"));
        assert!(refusal.challenge.unwrap().starts_with("DPoP "));
        assert_eq!(refusal.dpop_nonce, None);
    }
}

#[test]
fn what_is_not_known_of_a_proof_lets_nobody_in() {
    let proof = proof(None);
    let presented = proven(&proof);
    for (first_use, http_status, reason, challenged) in [
        (FirstUse::Replayed, 401, "proof_replayed", true),
        (FirstUse::Full, 503, "replays_full", false),
        (FirstUse::Lost, 503, "replays_lost", false),
        (FirstUse::Unsupported, 503, "replays_lost", false),
    ] {
        let gate = Gate::default();
        let refusal = gate
            .check(&active(bound()), Some(&presented), NOW, &mut |_, _| {
                first_use
            })
            .unwrap_err();
        assert_eq!(refusal.http_status, http_status, "{first_use:?}");
        assert_eq!(refusal.challenge.is_some(), challenged, "{first_use:?}");
        if first_use != FirstUse::Unsupported {
            assert_eq!(&*refusal.reason, reason);
        }
    }
}

#[test]
fn a_proof_that_needs_a_nonce_is_told_which() {
    let gate = gate(&[("dpop_nonce", "on"), ("realm", "api")]);
    let refusal = say(&gate, bound(), Some(&proven(&proof(None)))).unwrap_err();
    assert_eq!(
        (refusal.http_status, refusal.error, &*refusal.reason),
        (401, Some("use_dpop_nonce"), "proof_nonce")
    );
    let challenge = refusal.challenge.unwrap();
    assert!(
        challenge.starts_with(r#"DPoP realm="api", error="use_dpop_nonce", error_description=""#),
        "{challenge}"
    );
    let proof = proof(refusal.dpop_nonce.as_deref());
    assert_eq!(say(&gate, bound(), Some(&proven(&proof))), Ok(()));
    let challenge = gate.without_token(None).challenge.unwrap();
    assert!(
        challenge.starts_with(r#"Bearer realm="api", DPoP realm="api", algs=""#),
        "{challenge}"
    );
}

#[test]
fn a_token_that_is_bound_to_a_certificate_passes_on_the_connection_that_has_it() {
    let der = b"a certificate";
    let thumbprint = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, der));
    let token = json!({"cnf": {"x5t#S256": thumbprint}});
    let gate = Gate::default();
    for (certificate, expected) in [
        (Some(&der[..]), "ok"),
        (Some(b"another"), "certificate_other"),
        (Some(b""), "certificate_other"),
        (None, "certificate_missing"),
    ] {
        let presented = Presentation {
            client_certificate: certificate,
            ..bearer()
        };
        assert_eq!(reason(&gate, token.clone(), Some(&presented)), expected);
    }
}

#[test]
fn who_looks_at_the_sender_can_be_set() {
    let ignore = gate(&[("sender_constraint", "ignore"), ("scope", "read")]);
    let mut token = bound();
    assert_eq!(
        reason(&ignore, token.clone(), None),
        "scope:read",
        "the rest is looked at"
    );
    token["scope"] = "read".into();
    assert_eq!(reason(&ignore, token, None), "ok");

    let require = gate(&[("sender_constraint", "require")]);
    assert_eq!(reason(&require, json!({}), Some(&bearer())), "not_bound");
    assert_eq!(reason(&require, bound(), Some(&proven(&proof(None)))), "ok");

    let mut enforce = ignore;
    enforce.set("sender_constraint", "enforce").unwrap();
    assert_eq!(reason(&enforce, bound(), None), "presentation_missing");
}

#[test]
fn values_are_words_as_nginx_reads_them() {
    for (text, expected) in [
        ("", Some(&[][..])),
        ("  a \t b\r\n", Some(&["a", "b"])),
        (r#""a b" c"#, Some(&["a b", "c"])),
        (r#"'a "b"' """#, Some(&[r#"a "b""#, ""])),
        (r#""a \"b\" \\ \d""#, Some(&[r#"a "b" \ \d"#])),
        (r"~^\d+$ it's", Some(&[r"~^\d+$", "it's"])),
        (r"a\", Some(&[r"a\"])),
        (r#"a "b"#, None),
        ("'", None),
    ] {
        let words = words(text);
        let words: Option<Vec<_>> = words
            .as_ref()
            .map(|words| words.iter().map(String::as_str).collect());
        assert_eq!(words.as_deref(), expected, "{text}");
    }
    let gate = gate(&[("require", r#"tenant "big corp""#)]);
    assert_eq!(reason(&gate, json!({"tenant": "big corp"}), None), "ok");
    assert_eq!(
        reason(&gate, json!({"tenant": "big"}), None),
        "claim:tenant"
    );
}

#[test]
fn what_cannot_be_set_is_refused_with_the_mend_and_changes_nothing() {
    for (key, value, message) in [
        (
            "relm",
            "x",
            r#"there is no key "relm"; did you mean "realm"?"#,
        ),
        ("scopes", "", "scopes: a scope is missing"),
        ("scopes", "\"a", "scopes: a quote is not closed"),
        (
            "require",
            "a ~(",
            r#"require: "(" is not a regular expression: unclosed group"#,
        ),
        ("realm", "a\0", "realm: the value has a control character"),
        (
            "resource_metadata",
            "api.example.com",
            "resource_metadata: an https or http URL without spaces and quotes is needed",
        ),
        (
            "resource_metadata",
            "",
            "resource_metadata: an https or http URL without spaces and quotes is needed",
        ),
        (
            "sender_constraint",
            "off",
            "sender_constraint: it is enforce, require or ignore",
        ),
        (
            "sender_constraint",
            "",
            "sender_constraint: it is enforce, require or ignore",
        ),
        (
            "dpop_window",
            "0",
            "dpop_window: it is a time from 1s to 10m",
        ),
        (
            "dpop_window",
            "11m",
            "dpop_window: it is a time from 1s to 10m",
        ),
        ("dpop_nonce", "yes", "dpop_nonce: it is on or off"),
    ] {
        let mut gate = gate(&[("scope", "x")]);
        let before = format!("{gate:?}");
        assert_eq!(gate.set(key, value).unwrap_err().to_string(), message);
        assert_eq!(format!("{gate:?}"), before);
    }
}

#[test]
fn debug_shows_no_token() {
    assert_eq!(format!("{:?}", bearer()), "Presentation(..)");
}

proptest! {
    #[test]
    fn whatever_is_set_an_answer_is_one_line(key in proptest::sample::select(Gate::keys()), value in any::<String>()) {
        let mut gate = Gate::default();
        let _ = gate.set(key, &value);
        for refusal in [gate.without_token(None), gate.inactive(None)] {
            let challenge = refusal.challenge.unwrap_or_default();
            prop_assert!(!challenge.contains(char::is_control), "{:?}", challenge);
        }
    }
}
