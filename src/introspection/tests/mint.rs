//! Dialect `mint`, and JWTs that are minted from a signed response.

use tempfile::TempDir;

use super::*;
use crate::jwt::testing::{key, key_set, members, pem, pkcs8};
use crate::jwt::{Algorithm, Expected, verify};

const ISSUER: &str = "https://gateway.example.com";

/// A provider that mints with a key of its own.
struct Gateway {
    provider: Arc<Provider>,
    _files: TempDir,
}

impl Gateway {
    fn new(settings: &[(&str, &str)]) -> Self {
        Self::with_key(Algorithm::ES256, settings)
    }

    fn with_key(algorithm: Algorithm, settings: &[(&str, &str)]) -> Self {
        let files = TempDir::new().unwrap();
        let path = files.path().join("key.pem");
        std::fs::write(&path, pem("PRIVATE KEY", &pkcs8(algorithm))).unwrap();
        let mut base = vec![
            ("dialect", "mint"),
            ("mint_key", path.to_str().unwrap()),
            ("mint_issuer", ISSUER),
        ];
        base.extend_from_slice(settings);
        Gateway {
            provider: provider(&base),
            _files: files,
        }
    }

    fn read(&self, body: &str) -> Result<Verdict, Error> {
        super::read(&self.provider, 200, &HeaderMap::new(), body.as_bytes(), NOW)
    }

    /// The JWT that is minted from an answer, verified as an API does.
    fn minted(&self, answer: &Value) -> (Arc<Active>, Value) {
        let active = active(self.read(&answer.to_string()));
        let keys = KeySet::parse(self.provider.jwks().unwrap().as_bytes()).unwrap();
        let expected = Expected {
            algorithms: Algorithm::ALL,
            types: Some(&["at+jwt"]),
            issuer: Some(ISSUER),
            audiences: None,
            now: NOW,
            leeway: 0,
        };
        let claims = verify(active.jwt_after_sender_check(), &keys, &expected).unwrap();
        (active, Value::Object(claims))
    }
}

fn answer() -> Value {
    json!({
        "active": true, "token_type": "Bearer", "sub": "alice", "scope": "read write", "client_id": "web", "aud": "api",
        "username": "al",
        "iss": "https://as.example.com", "exp": NOW + 1000, "iat": NOW - 10, "role": {"name": "admin"},
        "jwt": good_jwt(), "nothing": null,
    })
}

#[test]
fn a_jwt_is_minted_of_what_the_server_says() {
    for algorithm in [
        Algorithm::ES256,
        Algorithm::ES384,
        Algorithm::EdDSA,
        Algorithm::RS256,
    ] {
        let (active, mut claims) = Gateway::with_key(algorithm, &[]).minted(&answer());
        assert!(claims["jti"].take().is_string());
        assert_eq!(
            claims,
            json!({
                "sub": "alice", "scope": "read write", "client_id": "web", "aud": "api", "username": "al",
                "iss": ISSUER, "exp": NOW + 300, "iat": NOW, "role": {"name": "admin"}, "jti": null,
                "token_type": "Bearer",
            })
        );
        assert_eq!(active.claims().iss.as_deref(), Some(ISSUER));
        assert_eq!(active.exp(), Some(NOW + 300));
        // The JWT contains the whole answer, so nothing need be kept beside it.
        assert_eq!(active.extra_claims(), "");
    }
    let (_, claims) =
        Gateway::with_key(Algorithm::RS256, &[("mint_alg", "PS256")]).minted(&answer());
    assert_eq!(claims["sub"], "alice");
}

#[test]
fn it_is_never_valid_for_longer_than_the_token() {
    for (ttl, exp, minted) in [
        ("5m", json!(NOW + 1000), NOW + 300),
        ("5m", json!(NOW + 20), NOW + 20),
        ("5m", json!((NOW + 20).to_string()), NOW + 20),
        ("5m", json!(null), NOW + 300),
        ("1h", json!(NOW + 1000), NOW + 1000),
        ("90s", json!(i64::MAX), NOW + 90),
    ] {
        let mut answer = answer();
        answer["exp"] = exp.clone();
        let (active, claims) = Gateway::new(&[("mint_ttl", ttl)]).minted(&answer);
        assert_eq!(claims["exp"], minted, "{ttl} {exp}");
        assert_eq!(active.exp(), Some(minted));
    }
    let gateway = Gateway::new(&[]);
    for exp in [json!(NOW), json!(NOW - 1), json!(0), json!(-5)] {
        let mut answer = answer();
        answer["exp"] = exp;
        assert!(is_inactive(gateway.read(&answer.to_string())));
    }
    let mut early = answer();
    early["nbf"] = json!(NOW + 61);
    assert!(is_inactive(gateway.read(&early.to_string())));
    for exp in [json!("SECRET"), json!(true), json!({})] {
        let mut answer = answer();
        answer["exp"] = exp;
        assert!(bad(gateway.read(&answer.to_string())).contains("exp is not a number"));
    }
}

#[test]
fn claims_are_chosen_for_the_jwt_and_all_count_here() {
    let (active, claims) = Gateway::new(&[("mint_claims", "sub iss")]).minted(&answer());
    let names: Vec<_> = claims
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(names, ["exp", "iat", "iss", "jti", "sub"]);
    assert_eq!(claims["iss"], ISSUER);
    assert_eq!(&*active.claims().scope, "read write");
    assert_eq!(&*active.claims().aud[0], "api");
    let again = crate::jwt::reread(active.jwt_after_sender_check(), active.extra_claims()).unwrap();
    assert_eq!(again.json(), active.claims().json());

    let (active, claims) =
        Gateway::new(&[("mint_claims_except", "username role scope")]).minted(&answer());
    assert!(claims.get("username").is_none() && claims.get("scope").is_none());
    assert_eq!(claims["aud"], "api");
    assert_eq!(&*active.claims().scope, "read write");
    // Under any of its names in the JWT, the server's value counts.
    let both =
        json!({"active": true, "token_type": "Bearer", "scope": "read", "scp": "read admin"});
    for list in [("mint_claims", "scp"), ("mint_claims_except", "scope")] {
        let (active, _) = Gateway::new(&[list]).minted(&both);
        assert_eq!(&*active.claims().scope, "read", "{list:?}");
    }
}

#[test]
fn no_credential_and_no_other_claim_of_ours_gets_into_it() {
    let mut answer = answer();
    answer["token_introspection"] = json!({"active": true});
    answer["jti"] = json!("theirs");
    let (active, claims) = Gateway::new(&[]).minted(&answer);
    for name in ["active", "jwt", "nothing", "token_introspection"] {
        assert!(claims.get(name).is_none(), "{name}");
    }
    assert_ne!(claims["jti"], "theirs");
    assert!(!active.claims().json().contains("eyJ"));
}

#[test]
fn a_token_bound_by_a_jwt_where_an_object_belongs_is_not_taken_for_one_that_is_not_bound() {
    let mut answer = answer();
    answer["cnf"] = json!(good_jwt());
    let message = bad(Gateway::new(&[]).read(&answer.to_string()));
    assert!(message.contains("cnf"), "{message}");
    answer["cnf"] = json!({"jkt": "x"});
    let (active, _) = Gateway::new(&[]).minted(&answer);
    assert!(active.is_bound());
}

#[test]
fn only_an_active_access_token_has_one_minted() {
    let gateway = Gateway::new(&[]);
    for body in [
        r#"{"active":false}"#,
        r#"{"active":false,"sub":"alice"}"#,
        r#"{"active":true,"token_type":"refresh_token"}"#,
        r#"{"active":true,"token_type":"Bearer","token_use":"refresh_token"}"#,
        r#"{"active":true,"token_type":"Bearer","purpose":"refresh_token"}"#,
        r#"{"active":true,"token_type":"Bearer","typ":"Offline"}"#,
        r#"{"active":true,"token_use":"id"}"#,
    ] {
        assert!(is_inactive(gateway.read(body)));
    }
    let deep = format!(
        r#"{{"active":true,"x":{}{}}}"#,
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    for (body, expected) in [
        ("", "is empty"),
        ("{}", "without the member active"),
        (r#"{"active":"true"}"#, "active is not true or false"),
        (r#"{"active":true,"active":false}"#, "stands twice"),
        (r#"{"active":true,"role":{"a":1,"a":2}}"#, "stands twice"),
        (
            r#"{"active":true,"account":18446744073709551616}"#,
            "too large to be read exactly",
        ),
        (
            r#"{"active":true,"token_type":"Bearer","sub":7}"#,
            "sub is not a string",
        ),
        (&*good_jwt(), "set dialect jwt"),
        (&*deep, "neither a JWT nor a JSON object"),
    ] {
        let message = bad(gateway.read(body));
        assert!(message.contains(expected), "{message}");
    }
    let long = json!({"active": true, "token_type": "Bearer", "x": "a".repeat(60_000)}).to_string();
    assert!(bad(gateway.read(&long)).contains("choose from it with mint_claims"));
    for status in [204, 400, 401, 500] {
        let answer = super::read(&gateway.provider, status, &HeaderMap::new(), b"", NOW);
        assert!(answer.is_err(), "{status}");
    }
}

/// The log message about a refused token.
fn note(gateway: &Gateway, body: &str) -> String {
    let provider = &gateway.provider;
    let asked = AnswerContext {
        provider,
        server: &provider.server,
        endpoint: &provider.server.introspection[0],
        client_auth: crate::oauth::ClientAuth::None,
        keys: None,
    };
    let read =
        super::super::read_noting(&asked, 200, &HeaderMap::new(), body.as_bytes(), NOW).unwrap();
    assert!(matches!(read.verdict, Verdict::Inactive), "{body}");
    read.note.unwrap_or_default()
}

/// A refresh token as oidc-provider introspects it: active, and without its kind.
const REFRESH_TOKEN: &str =
    r#"{"active":true,"sub":"alice","client_id":"web","scope":"read","exp":1700000300}"#;

#[test]
fn what_is_not_said_to_be_an_access_token_is_inactive_and_the_log_says_why() {
    let gateway = Gateway::new(&[]);
    for body in [
        REFRESH_TOKEN,
        r#"{"active":true,"token_type":""}"#,
        r#"{"active":true,"token_type":"something"}"#,
        r#"{"active":true,"token_type":["Bearer"]}"#,
        r#"{"active":true,"typ":"JWT","aud":"api"}"#,
    ] {
        let note = note(&gateway, body);
        assert!(note.starts_with("provider \"main\": "), "{note}");
        for text in ["may be a refresh token", "token_type any"] {
            assert!(note.contains(text), "{note}");
        }
        assert!(!note.contains("alice"), "{note}");
    }
    assert!(note(&gateway, r#"{"active":true,"token_use":"refresh_token"}"#).contains("wrong one"));
    assert_eq!(note(&gateway, r#"{"active":false}"#), "");
    for said in [
        r#""token_type":"Bearer""#,
        r#""token_type":"DPoP""#,
        r#""token_type":"access_token""#,
        r#""token_use":"access_token""#,
        r#""typ":"Bearer""#,
        r#""typ":"at+jwt""#,
        r#""purpose":"access_token""#,
    ] {
        active(gateway.read(&format!(r#"{{"active":true,{said}}}"#)));
    }
}

#[test]
fn a_token_is_for_an_audience_that_is_expected() {
    let gateway = Gateway::new(&[("verify_audience", "api other")]);
    for aud in [json!("api"), json!(["x", "other"])] {
        let answer = json!({"active": true, "token_type": "Bearer", "aud": aud});
        active(gateway.read(&answer.to_string()));
        // Doorkeeper says no more of a refresh token.
        let answer = json!({"active": true, "aud": aud});
        assert!(note(&gateway, &answer.to_string()).contains("may be a refresh token"));
    }
    for answer in [
        json!({"active": true, "token_type": "Bearer"}),
        json!({"active": true, "token_type": "Bearer", "aud": "foreign"}),
        json!({"active": true, "token_type": "Bearer", "aud": {"api": 1}}),
    ] {
        assert!(note(&gateway, &answer.to_string()).contains("names none of verify_audience"));
    }
    let refresh = r#"{"active":true,"token_use":"refresh_token","aud":"api"}"#;
    assert!(note(&gateway, refresh).contains("wrong one"));
}

#[test]
fn with_token_type_any_only_what_says_that_it_is_another_is_refused() {
    let gateway = Gateway::new(&[("token_type", "any")]);
    active(gateway.read(REFRESH_TOKEN));
    assert!(is_inactive(
        gateway.read(r#"{"active":true,"token_type":"refresh_token"}"#)
    ));
    let warnings = gateway.provider.warnings().join("\n");
    assert!(warnings.contains("token_type any"), "{warnings}");
    let gateway = Gateway::new(&[]);
    let warnings = gateway.provider.warnings().join("\n");
    assert!(!warnings.contains("token_type any"), "{warnings}");
}

#[test]
fn no_subject_of_another_issuer_becomes_one_of_ours() {
    let gateway = Gateway::new(&[("issuer", "https://as.example.com")]);
    let of = |iss: Value| {
        let mut answer = answer();
        answer["iss"] = iss;
        answer.to_string()
    };
    active(gateway.read(&of(json!("https://as.example.com"))));
    active(gateway.read(&of(json!(null))));
    let said = note(&gateway, &of(json!("https://other.example.com")));
    assert!(
        said.contains("another issuer") && said.contains("check that setting"),
        "{said}"
    );
}

#[test]
fn of_a_signed_response_one_is_minted_by_default() {
    let gateway = Gateway::new(&[
        ("dialect", "signed"),
        ("issuer", "https://as.example.com"),
        ("jwks_uri", "https://as.example.com/jwks"),
        ("client_id", "gateway"),
        ("client_auth", "none"),
    ]);
    let server_key = key(Algorithm::ES256);
    for (response_exp, expected) in [(None, NOW + 300), (Some(NOW + 30), NOW + 30)] {
        let mut response = json!({
            "iss": "https://as.example.com", "aud": "gateway", "iat": NOW,
            "token_introspection": {"active": true, "token_type": "Bearer", "sub": "alice", "aud": "api"},
        });
        if let Some(exp) = response_exp {
            response["exp"] = json!(exp);
        }
        let body = server_key
            .sign(Some("token-introspection+jwt"), &members(response))
            .unwrap();
        let keys = key_set(std::slice::from_ref(&server_key));
        let asked = AnswerContext {
            provider: &gateway.provider,
            server: &gateway.provider.server,
            endpoint: &gateway.provider.server.introspection[0],
            client_auth: crate::oauth::ClientAuth::None,
            keys: Some(&keys),
        };
        let answer = super::super::read(&asked, 200, &HeaderMap::new(), body.as_bytes(), NOW);
        let active = active(answer);
        assert_ne!(active.jwt_after_sender_check(), body);
        assert_eq!(active.exp(), Some(expected));
        let claims: Value = serde_json::from_str(active.claims().json()).unwrap();
        assert_eq!(claims["iss"], ISSUER);
        assert_eq!(claims["aud"], "api");
        assert!(claims.get("token_introspection").is_none());
    }
}
