//! Dialect `signed`, and JWTs that must verify.

use super::*;
use crate::jwt::testing::{key, key_set, members};
use crate::jwt::{Algorithm, SigningKey};

const ISSUER: &str = "https://as.example.com";
const TYPE: &str = "token-introspection+jwt";

const SIGNED: [(&str, &str); 6] = [
    ("issuer", ISSUER),
    ("jwks_uri", "https://as.example.com/jwks"),
    ("client_id", "gateway"),
    ("client_auth", "none"),
    ("dialect", "signed"),
    ("forward", "signed"),
];

const VERIFY: [(&str, &str); 3] = [
    ("issuer", ISSUER),
    ("jwks_uri", "https://as.example.com/jwks"),
    ("verify", "on"),
];

/// A server's answer in these tests.
fn response(token: Value) -> Value {
    json!({"iss": ISSUER, "aud": "gateway", "iat": NOW, "token_introspection": token})
}

fn alice() -> Value {
    json!({
        "active": true, "token_type": "Bearer", "sub": "alice", "scope": "read write", "exp": NOW + 300, "iss": ISSUER,
    })
}

fn sign(key: &SigningKey, typ: Option<&str>, claims: Value) -> String {
    key.sign(typ, &members(claims)).unwrap()
}

fn with_keys(
    settings: &[(&str, &str)],
    keys: Option<&KeySet>,
    algorithms: Option<&[&str]>,
    body: &str,
) -> Result<Verdict, Error> {
    let provider = provider(settings);
    let mut server = provider.server.clone();
    server.introspection_signing_algorithms =
        algorithms.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
    let asked = AnswerContext {
        provider: &provider,
        server: &server,
        endpoint: &provider.server.introspection[0],
        client_auth: crate::oauth::ClientAuth::None,
        keys,
    };
    super::super::read(&asked, 200, &HeaderMap::new(), body.as_bytes(), NOW)
}

/// A response that our key has signed.
fn signed(claims: Value) -> Result<Verdict, Error> {
    let key = key(Algorithm::ES256);
    let body = sign(&key, Some(TYPE), claims);
    with_keys(&SIGNED, Some(&key_set(&[key])), None, &body)
}

fn verified(settings: &[(&str, &str)], claims: Value) -> Result<Verdict, Error> {
    let key = key(Algorithm::ES256);
    let body = sign(&key, Some("at+jwt"), claims);
    with_keys(
        &[&VERIFY, settings].concat(),
        Some(&key_set(&[key])),
        None,
        &body,
    )
}

#[test]
fn a_signed_response_goes_upstream_as_it_came_and_its_token_is_what_counts() {
    for algorithm in Algorithm::ALL {
        let key = key(*algorithm);
        let body = sign(&key, Some(TYPE), response(alice()));
        let keys = key_set(&[key]);
        for line_break in ["", "\n", "\r\n"] {
            let active = active(with_keys(
                &SIGNED,
                Some(&keys),
                None,
                &format!("{body}{line_break}"),
            ));
            assert_eq!(active.jwt_after_sender_check(), body, "{algorithm}");
            assert_eq!(active.exp(), Some(NOW + 300));
            assert_eq!(active.claims().sub.as_deref(), Some("alice"));
            assert_eq!(&*active.claims().scope, "read write");
            // That is whom the response is for.
            assert!(active.claims().aud.is_empty());
            assert!(!active.claims().json().contains("active"));
            // As a store gives it back.
            let again =
                crate::jwt::reread(active.jwt_after_sender_check(), active.extra_claims()).unwrap();
            assert_eq!(again.json(), active.claims().json());
        }
    }
}

#[test]
fn a_response_that_says_so_is_inactive() {
    for token in [
        json!({"active": false}),
        json!({"active": false, "sub": "alice", "exp": NOW + 300}),
        json!({"active": true, "token_type": "Bearer", "exp": NOW}),
        json!({"active": true, "token_type": "Bearer", "nbf": NOW + 61}),
        json!({"active": true, "token_type": "refresh_token"}),
        // As oidc-provider says it of a refresh token.
        json!({"active": true, "sub": "alice", "scope": "read write", "exp": NOW + 300}),
    ] {
        assert!(is_inactive(signed(response(token.clone()))), "{token}");
    }
}

#[test]
fn a_response_ends_what_it_says_when_it_expires_itself() {
    let mut claims = response(alice());
    claims["exp"] = json!(NOW + 20);
    let active = active(signed(claims.clone()));
    assert_eq!(active.exp(), Some(NOW + 20));
    let again = crate::jwt::reread(active.jwt_after_sender_check(), active.extra_claims()).unwrap();
    assert_eq!(again.exp, Some(NOW + 20));
    claims["exp"] = json!(NOW);
    assert!(bad(signed(claims)).contains("it has expired"));
}

#[test]
fn a_response_that_is_not_what_it_should_be_is_an_error_that_says_what() {
    let with = |name: &str, value: Value| {
        let mut claims = response(alice());
        claims[name] = value;
        bad(signed(claims))
    };
    for (message, expected) in [
        (
            with("iss", json!("https://evil.example.com")),
            "is not the issuer expected; check issuer",
        ),
        (with("iss", json!(null)), "it has no iss"),
        (with("aud", json!("other")), "check client_id"),
        (with("aud", json!(null)), "it has no aud"),
        (with("nbf", json!(NOW + 61)), "is not valid yet"),
        (
            with("token_introspection", json!(null)),
            "no object token_introspection",
        ),
        (
            with("token_introspection", json!("active")),
            "no object token_introspection",
        ),
        (
            with("token_introspection", json!({})),
            "without the member active",
        ),
        (
            with("token_introspection", json!({"active": "true"})),
            "active is not true or false",
        ),
        (
            with(
                "token_introspection",
                json!({"active": true, "token_type": "Bearer", "exp": "x"}),
            ),
            "exp is not a number",
        ),
    ] {
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn only_an_introspection_response_is_taken_for_one() {
    let key = key(Algorithm::ES256);
    let keys = key_set(std::slice::from_ref(&key));
    for typ in [None, Some("JWT"), Some("at+jwt"), Some("logout+jwt")] {
        let body = sign(&key, typ, response(alice()));
        let message = bad(with_keys(&SIGNED, Some(&keys), None, &body));
        assert!(message.contains("typ"), "{message}");
    }
    let body = sign(
        &key,
        Some(&format!("application/{TYPE}")),
        response(alice()),
    );
    active(with_keys(&SIGNED, Some(&keys), None, &body));
}

#[test]
fn what_is_not_signed_is_not_believed_whatever_it_says() {
    for body in [
        r#"{"active":false}"#.to_owned(),
        r#"{"active":true,"sub":"alice"}"#.to_owned(),
        with_jwt("jwt"),
        "{".to_owned(),
    ] {
        let message = bad(with_keys(&SIGNED, None, None, &body));
        assert!(
            message.contains("plain JSON") && message.contains("set dialect mint"),
            "{message}"
        );
    }
    let none = test_jwt_with(
        &json!({"alg": "none", "typ": TYPE}).to_string(),
        &response(alice()).to_string(),
    );
    assert!(bad(with_keys(&SIGNED, None, None, &none)).contains("not signed"));
    let unsigned = format!("{}.", none.rsplit_once('.').unwrap().0);
    bad(with_keys(&SIGNED, None, None, &unsigned));
    let message = bad(with_keys(&SIGNED, None, None, "a.b.c.d.e"));
    assert!(message.contains("encrypted (JWE)"), "{message}");
    for body in ["", "<a.b.c>", "SECRET"] {
        bad(with_keys(&SIGNED, None, None, body));
    }
    for status in [204, 400, 404, 406, 500] {
        let answer = read(&provider(&SIGNED), status, &HeaderMap::new(), b"", NOW);
        bad(answer);
    }
}

#[test]
fn a_signature_with_a_public_key_as_shared_secret_is_refused() {
    use crate::jwt::{SecretAlgorithm, jwks, sign_with_secret};
    use crate::secret::Secret;
    let key = key(Algorithm::RS256);
    let public = jwks(std::slice::from_ref(&key));
    let secret = Secret::new(public);
    let body =
        sign_with_secret(&secret, SecretAlgorithm::HS256, &members(response(alice()))).unwrap();
    let keys = key_set(&[key]);
    let message = bad(with_keys(&SIGNED, Some(&keys), None, &body));
    assert!(message.contains("\"HS256\""), "{message}");
    let message = bad(with_keys(&VERIFY, Some(&keys), None, &body));
    assert!(
        message.contains("signed introspection response"),
        "{message}"
    );
}

#[test]
fn the_algorithm_is_one_that_the_metadata_lists() {
    let key = key(Algorithm::ES256);
    let body = sign(&key, Some(TYPE), response(alice()));
    let keys = key_set(&[key]);
    let with = |names: &[&str]| with_keys(&SIGNED, Some(&keys), Some(names), &body);
    active(with(&["RS256", "ES256"]));
    assert!(bad(with(&["RS256", "none"])).contains("\"ES256\""));
    assert!(bad(with(&["none", "HS256"])).contains("has no algorithm that can be verified"));
}

#[test]
fn a_key_that_is_not_known_may_become_known() {
    let (ours, other) = (key(Algorithm::ES256), SigningKey::generate().unwrap());
    let keys = key_set(&[other]);
    for (settings, body) in [
        (&SIGNED[..], sign(&ours, Some(TYPE), response(alice()))),
        (&VERIFY[..], sign(&ours, None, json!({"iss": ISSUER}))),
    ] {
        for keys in [None, Some(&keys)] {
            let error = with_keys(settings, keys, None, &body).unwrap_err();
            assert!(error.is_unknown_key(), "{error}");
            assert_eq!(error.kind(), ErrorKind::BadAnswer);
        }
        active(with_keys(
            settings,
            Some(&key_set(std::slice::from_ref(&ours))),
            None,
            &body,
        ));
    }
    // The right name on the wrong key is no reason to look again.
    let forged = SigningKey::generate().unwrap().with_kid(ours.kid());
    let body = sign(&forged, Some(TYPE), response(alice()));
    let error = with_keys(&SIGNED, Some(&key_set(&[ours])), None, &body).unwrap_err();
    assert!(!error.is_unknown_key(), "{error}");
    assert!(error.message().contains("signature"), "{error}");
}

#[test]
fn a_jwt_that_must_verify_does_or_is_an_error() {
    let good = json!({"iss": ISSUER, "aud": ["api", "x"], "sub": "alice", "exp": NOW + 9});
    active(verified(&[], good.clone()));
    active(verified(&[("verify_audience", "other api")], good.clone()));
    let message = bad(verified(&[("verify_audience", "other")], good.clone()));
    assert!(message.contains("verify_audience"), "{message}");
    let mut foreign = good.clone();
    foreign["iss"] = json!("https://evil.example.com");
    assert!(bad(verified(&[], foreign)).contains("check issuer"));
    let mut expired = good.clone();
    expired["exp"] = json!(NOW);
    assert!(is_inactive(verified(&[], expired)));
    let mut early = good.clone();
    early["nbf"] = json!(NOW + 61);
    assert!(is_inactive(verified(&[], early)));

    // Whatever is not signed by one of the keys is no verdict, and not even inactive.
    let keys = key_set(&[key(Algorithm::ES256)]);
    for body in [
        good_jwt(),
        with_jwt("jwt"),
        sign(
            &SigningKey::generate()
                .unwrap()
                .with_kid(key(Algorithm::ES256).kid()),
            None,
            json!({"iss": ISSUER, "exp": NOW - 1}),
        ),
    ] {
        bad(with_keys(&VERIFY, Some(&keys), None, &body));
    }
    // Where there is no JWT, there is nothing to verify.
    assert!(is_inactive(with_keys(
        &VERIFY,
        None,
        None,
        r#"{"active":false}"#
    )));
}

#[test]
fn in_other_dialects_a_signed_response_is_not_taken_for_an_access_token() {
    let key = key(Algorithm::ES256);
    let claims = response(json!({"active": false}));
    let body = sign(&key, Some(TYPE), claims);
    for dialect in ["jwt", "auto"] {
        let message = bad(in_dialect(dialect, &body));
        assert!(message.contains("set dialect signed"), "{message}");
    }
    let message = bad(in_dialect(
        "json",
        json!({"active": true, "jwt": body}).to_string(),
    ));
    assert!(message.contains("set dialect signed"), "{message}");
}

#[test]
fn an_answer_without_a_jwt_names_what_the_metadata_says_can_be_done() {
    let provider = provider(&[]);
    let mut server = provider.server.clone();
    let say = |server: &crate::oauth::Server| {
        let asked = AnswerContext {
            provider: &provider,
            server,
            endpoint: &provider.server.introspection[0],
            client_auth: crate::oauth::ClientAuth::None,
            keys: None,
        };
        let answer = super::super::read(&asked, 200, &HeaderMap::new(), br#"{"active":true}"#, NOW);
        bad(answer)
    };
    let message = say(&server);
    assert!(message.contains("\"dialect mint; mint_key"), "{message}");
    assert!(!message.contains("dialect signed"), "{message}");
    assert!(!message.contains("dialect exchange"), "{message}");
    server.introspection_signing_algorithms = Some(vec!["ES256".to_owned()]);
    server.grant_types = Some(vec![super::super::exchange::GRANT.to_owned()]);
    let message = say(&server);
    for dialect in [
        "\"dialect signed; ",
        "\"dialect exchange;\"",
        "\"dialect mint; ",
    ] {
        assert!(message.contains(dialect), "{message}");
    }
}
