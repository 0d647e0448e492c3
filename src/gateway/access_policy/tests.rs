use std::cell::OnceCell;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::gateway::outcome::Malformation;
use crate::gateway::sender::{Proof, Thumbprint, Uri};
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

fn policy(parts: &[(&str, &str)]) -> AccessPolicy {
    let mut policy = AccessPolicy::default();
    for (key, value) in parts {
        policy.set(key, value).unwrap();
    }
    policy
}

/// The credentials of a request. Empty by default.
#[derive(Clone, Copy)]
struct Presented<'a> {
    authorization: Option<&'a [u8]>,
    method: &'a [u8],
    url: &'a [u8],
    proof: Proof<'a>,
    client_certificate: Option<&'a [u8]>,
}

impl Default for Presented<'_> {
    fn default() -> Self {
        Presented {
            authorization: None,
            method: b"",
            url: b"",
            proof: Proof::None,
            client_certificate: None,
        }
    }
}

impl<'a> Presented<'a> {
    fn credentials(&self) -> Credentials<'a> {
        let mut credentials = Credentials::default();
        credentials.add_authorization(self.authorization.into_iter());
        credentials
    }
}

/// All parts of a denial and its answer.
#[derive(Debug, PartialEq)]
struct Denied {
    http_status: u16,
    error: Option<ErrorCode>,
    detail: String,
    challenge: Option<String>,
    dpop_nonce: Option<String>,
}

fn denied(policy: &AccessPolicy, denial: &Denial<'_>) -> Denied {
    let answer = policy.answer(denial, NOW);
    assert_eq!(answer.status, denial.reason.http_status());
    assert_eq!(answer.retry_after.is_some(), answer.status == 503);
    Denied {
        http_status: answer.status,
        error: denial.reason.error(),
        detail: denial.reason.detail().to_owned(),
        challenge: answer.challenge.map(Cow::into_owned),
        dpop_nonce: answer.dpop_nonce,
    }
}

fn bearer() -> Presented<'static> {
    Presented {
        authorization: Some(b"Bearer 8f3c0a52"),
        ..Presented::default()
    }
}

fn decide(
    policy: &AccessPolicy,
    resolved: Resolved<&Active>,
    presented: Option<&Presented<'_>>,
    first_use: FirstUse,
) -> Result<(), Denied> {
    let nothing = Presented::default();
    let presented = presented.unwrap_or(&nothing);
    let credentials = presented.credentials();
    let request = RequestContext {
        scheme: credentials.scheme(),
        method: presented.method,
        uri: Uri::Composed(presented.url),
        proof: presented.proof,
        certificate: &|| presented.client_certificate.map(Thumbprint::of_der),
    };
    let mut first_use = |_: &ProofId, _| first_use;
    let decision = match (resolved, credentials.token()) {
        (Resolved::Active(active), Ok(None) | Err(_)) => {
            policy.decide_verdict(&credentials, Some(active), &request, NOW, &mut first_use)
        }
        (Resolved::Inactive, Ok(None)) => {
            policy.decide_verdict(&credentials, None, &request, NOW, &mut first_use)
        }
        (resolved, _) => {
            policy.decide_request(&credentials, resolved, &request, NOW, &mut first_use)
        }
    };
    match decision {
        Decision::Admitted(_) | Decision::Anonymous => Ok(()),
        Decision::Denied(denial) => Err(denied(policy, &denial)),
    }
}

/// The policy's decision about a token when every proof is used for the first time.
fn say(
    policy: &AccessPolicy,
    token: Value,
    presented: Option<&Presented<'_>>,
) -> Result<(), Denied> {
    let active = active(token);
    decide(
        policy,
        Resolved::Active(&active),
        presented,
        FirstUse::First,
    )
}

fn without_token(policy: &AccessPolicy, presented: Option<&Presented<'_>>) -> Denied {
    decide(policy, Resolved::NotAsked, presented, FirstUse::First).unwrap_err()
}

fn inactive(policy: &AccessPolicy, presented: Option<&Presented<'_>>) -> Denied {
    decide(policy, Resolved::Inactive, presented, FirstUse::First).unwrap_err()
}

fn reason(policy: &AccessPolicy, token: Value, presented: Option<&Presented<'_>>) -> String {
    say(policy, token, presented).map_or_else(|denied| denied.detail, |()| "ok".into())
}

/// A proof with the key that [`bound`] tokens are bound to.
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

fn proven(proof: &str) -> Presented<'_> {
    Presented {
        authorization: Some(b"DPoP 8f3c0a52"),
        method: b"GET",
        url: URL.as_bytes(),
        proof: Proof::One(proof.as_bytes()),
        client_certificate: None,
    }
}

#[test]
fn a_policy_that_asks_for_nothing_lets_every_active_token_pass_that_is_not_bound() {
    let policy = AccessPolicy::default();
    assert_eq!(say(&policy, json!({}), None), Ok(()));
    assert_eq!(say(&policy, json!({}), Some(&bearer())), Ok(()));
    for cnf in [
        json!({"jkt": "x"}),
        json!({"x5t#S256": "x"}),
        json!({}),
        json!("x"),
    ] {
        for presented in [None, Some(&Presented::default()), Some(&bearer())] {
            let denied = say(&policy, json!({"cnf": cnf}), presented).unwrap_err();
            assert_eq!(
                (denied.http_status, denied.error),
                (401, Some(ErrorCode::InvalidToken))
            );
        }
    }
}

#[test]
fn a_denial_has_everything_that_the_answer_needs() {
    let policy = policy(&[
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
    for (denied, http_status, error, reason, challenge) in [
        (
            without_token(&policy, None),
            401,
            None,
            "",
            r#", scope="read write""#,
        ),
        (
            inactive(&policy, None),
            401,
            Some(ErrorCode::InvalidToken),
            "",
            r#", error="invalid_token""#,
        ),
        (
            say(&policy, json!({"scope": "read write"}), None).unwrap_err(),
            401,
            Some(ErrorCode::InvalidToken),
            "audience",
            r#", error="invalid_token""#,
        ),
        (
            say(&policy, json!({"scope": "read", "aud": "api"}), None).unwrap_err(),
            403,
            Some(ErrorCode::InsufficientScope),
            "scope:write",
            r#", error="insufficient_scope", scope="read write""#,
        ),
        (
            say(&policy, json!({"scope": "write read", "aud": "api"}), None).unwrap_err(),
            401,
            Some(ErrorCode::InsufficientUserAuthentication),
            "acr",
            r#", error="insufficient_user_authentication", acr_values="gold""#,
        ),
    ] {
        assert_eq!(
            denied,
            Denied {
                http_status,
                error,
                detail: reason.into(),
                challenge: Some(format!("{start}{challenge}{end}")),
                dpop_nonce: None,
            }
        );
    }
    let good = json!({"scope": "write read", "aud": "api", "acr": "gold"});
    assert_eq!(say(&policy, good, None), Ok(()));
}

#[test]
fn what_is_no_token_is_told_apart_from_none() {
    let policy = AccessPolicy::default();
    for (authorization, http_status, detail) in [
        (None, 401, ""),
        (Some(&b"Basic YTpi"[..]), 401, ""),
        (Some(b"Bearer a b"), 400, "token"),
        (Some(b"DPoP"), 400, "token"),
        // The token must be resolved first.
        (Some(b"Bearer abc"), 500, "failed"),
    ] {
        let presented = Presented {
            authorization,
            ..Presented::default()
        };
        let denied = without_token(&policy, Some(&presented));
        assert_eq!((denied.http_status, &*denied.detail), (http_status, detail));
    }
    let dpop = Presented {
        authorization: Some(b"DPoP abc"),
        ..Presented::default()
    };
    let challenge = inactive(&policy, Some(&dpop)).challenge.unwrap();
    assert!(
        challenge.starts_with("DPoP error=\"invalid_token\", algs=\""),
        "{challenge}"
    );
}

#[test]
fn a_bound_token_passes_with_its_proof_and_with_nothing_less() {
    let policy = AccessPolicy::default();
    let proof = proof(None);
    let good = proven(&proof);
    assert_eq!(say(&policy, bound(), Some(&good)), Ok(()));
    for (presented, reason_wanted) in [
        (
            Presented {
                authorization: None,
                ..good
            },
            "presentation_missing",
        ),
        (
            Presented {
                authorization: Some(b"Basic YTpi"),
                ..good
            },
            "presentation_missing",
        ),
        (
            Presented {
                authorization: Some(b"Bearer 8f3c0a52"),
                ..good
            },
            "scheme",
        ),
        (
            Presented {
                authorization: Some(b"DPoP other"),
                ..good
            },
            "proof_ath",
        ),
        (
            Presented {
                method: b"",
                ..good
            },
            "proof_htm",
        ),
        (
            Presented {
                method: b"POST",
                ..good
            },
            "proof_htm",
        ),
        (Presented { url: b"", ..good }, "proof_htu"),
        (
            Presented {
                url: b"https://api.example.com/other",
                ..good
            },
            "proof_htu",
        ),
        (
            Presented {
                proof: Proof::None,
                ..good
            },
            "proof_missing",
        ),
        (
            Presented {
                proof: Proof::Several,
                ..good
            },
            "proof_several",
        ),
        (
            Presented {
                proof: Proof::One(b"x"),
                ..good
            },
            "proof_malformed",
        ),
    ] {
        assert_eq!(reason(&policy, bound(), Some(&presented)), reason_wanted);
    }
    assert_eq!(reason(&policy, bound(), None), "presentation_missing");
    // The proof of a key does not admit another token either.
    assert_eq!(
        reason(&policy, json!({"cnf": {"jkt": "other"}}), Some(&good)),
        "proof_key"
    );
    assert_eq!(reason(&policy, json!({}), Some(&good)), "not_bound");
}

#[test]
fn a_url_that_was_made_with_a_host_that_is_none_is_400() {
    let policy = policy(&[("realm", "orders"), ("dpop_nonce", "on")]);
    let proof = proof(None);
    for url in [
        "https://api.example.com?/orders",
        "https://api.example.com#/orders",
        "https://api.example.com",
        "https://?/orders",
        "/orders",
    ] {
        let presented = Presented {
            url: url.as_bytes(),
            ..proven(&proof)
        };
        let denied = say(&policy, bound(), Some(&presented)).unwrap_err();
        assert_eq!(denied.http_status, 400, "{url}");
        assert_eq!(&*denied.detail, "host");
        assert_eq!(denied.error, Some(ErrorCode::InvalidRequest));
        assert!(denied.challenge.unwrap().starts_with("DPoP "));
        assert_eq!(denied.dpop_nonce, None);
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
        let policy = AccessPolicy::default();
        let active = active(bound());
        let resolved = Resolved::Active(&active);
        let denied = decide(&policy, resolved, Some(&presented), first_use).unwrap_err();
        assert_eq!(denied.http_status, http_status, "{first_use:?}");
        assert_eq!(denied.challenge.is_some(), challenged, "{first_use:?}");
        if first_use != FirstUse::Unsupported {
            assert_eq!(&*denied.detail, reason);
        }
    }
}

#[test]
fn a_proof_that_needs_a_nonce_is_told_which() {
    let policy = policy(&[("dpop_nonce", "on"), ("realm", "api")]);
    let denied = say(&policy, bound(), Some(&proven(&proof(None)))).unwrap_err();
    assert_eq!(
        (denied.http_status, denied.error, &*denied.detail),
        (401, Some(ErrorCode::UseDpopNonce), "proof_nonce")
    );
    let challenge = denied.challenge.unwrap();
    assert!(
        challenge.starts_with(r#"DPoP realm="api", error="use_dpop_nonce", error_description=""#),
        "{challenge}"
    );
    let proof = proof(denied.dpop_nonce.as_deref());
    assert_eq!(say(&policy, bound(), Some(&proven(&proof))), Ok(()));
    let challenge = without_token(&policy, None).challenge.unwrap();
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
    let policy = AccessPolicy::default();
    for (certificate, expected) in [
        (Some(&der[..]), "ok"),
        (Some(b"another"), "certificate_other"),
        (Some(b""), "certificate_other"),
        (None, "certificate_missing"),
    ] {
        let presented = Presented {
            client_certificate: certificate,
            ..bearer()
        };
        assert_eq!(reason(&policy, token.clone(), Some(&presented)), expected);
    }
}

#[test]
fn who_looks_at_the_sender_can_be_set() {
    let ignore = policy(&[("sender_constraint", "ignore"), ("scope", "read")]);
    let mut token = bound();
    assert_eq!(
        reason(&ignore, token.clone(), None),
        "scope:read",
        "the rest is looked at"
    );
    token["scope"] = "read".into();
    assert_eq!(reason(&ignore, token, None), "ok");

    let require = policy(&[("sender_constraint", "require")]);
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
    let policy = policy(&[("require", r#"tenant "big corp""#)]);
    assert_eq!(reason(&policy, json!({"tenant": "big corp"}), None), "ok");
    assert_eq!(
        reason(&policy, json!({"tenant": "big"}), None),
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
            r#"dpop_window: "0" is out of range: it must be 1s to 10m"#,
        ),
        (
            "dpop_window",
            "11m",
            r#"dpop_window: "11m" is out of range: it must be 1s to 10m"#,
        ),
        (
            "dpop_window",
            "5x",
            r#"dpop_window: "5x" is not a time: write it as 500ms, 5s or 1m"#,
        ),
        (
            "dpop_nonce",
            "yes",
            r#"dpop_nonce: "yes" is not a switch: write it as on or off"#,
        ),
        (
            "optional",
            "maybe",
            r#"optional: "maybe" is not a switch: write it as on or off"#,
        ),
    ] {
        let mut policy = policy(&[("scope", "x")]);
        let before = format!("{policy:?}");
        assert_eq!(policy.set(key, value).unwrap_err().to_string(), message);
        assert_eq!(format!("{policy:?}"), before);
    }
}

#[test]
fn debug_shows_no_token() {
    let admitted = Admitted {
        active: &active(json!({})),
        proven: Proven::default(),
        in_query: false,
    };
    assert_eq!(format!("{admitted:?}"), "Admitted(..)");
}

#[test]
fn a_request_without_a_token_goes_on_where_none_is_needed() {
    let policy = policy(&[("optional", "on"), ("scope", "read")]);
    assert_eq!(
        policy
            .token(&Credentials::default())
            .ok()
            .flatten()
            .map(drop),
        None
    );
    assert_eq!(
        decide(&policy, Resolved::NotAsked, None, FirstUse::First),
        Ok(())
    );
    // A presented token must be valid even where it is optional.
    let malformed = Presented {
        authorization: Some(b"Bearer"),
        ..Presented::default()
    };
    assert_eq!(without_token(&policy, Some(&malformed)).detail, "token");
    assert_eq!(inactive(&policy, Some(&bearer())).http_status, 401);
    assert_eq!(reason(&policy, json!({}), Some(&bearer())), "scope:read");
}

#[test]
fn without_a_verdict_a_request_is_answered_with_when_to_try_again() {
    let policy = policy(&[("realm", "api")]);
    let credentials = bearer().credentials();
    for (kind, after, status, retry_after) in [
        (ErrorKind::Unreachable, None, 502, None),
        (
            ErrorKind::Unreachable,
            Some(Duration::from_secs(7)),
            502,
            None,
        ),
        (ErrorKind::Timeout, None, 504, None),
        (
            ErrorKind::Busy,
            Some(Duration::from_millis(6_100)),
            503,
            Some(7),
        ),
        (ErrorKind::Overloaded, None, 503, Some(1)),
        (ErrorKind::CircuitOpen, Some(Duration::ZERO), 503, Some(1)),
    ] {
        let reason = DenialReason::Unavailable {
            kind,
            retry_after: after,
        };
        let denial = Denial::new(reason, &credentials);
        let answer = policy.answer(&denial, NOW);
        assert_eq!((answer.status, answer.retry_after), (status, retry_after));
        assert_eq!(answer.challenge, None);
        assert_eq!(denial.outcome(), Outcome::Unavailable);
    }
}

#[test]
fn an_answer_has_all_of_its_headers() {
    let policy = policy(&[("realm", "api"), ("source", "query access_token")]);
    let decoded = OnceCell::new();
    let credentials = Credentials::read(
        policy.sources(),
        [].into_iter(),
        b"/?access_token=a%20b",
        &decoded,
    );
    let denial = policy.token(&credentials).err().unwrap();
    let malformed = DenialReason::Malformed(Malformation::Query);
    assert_eq!(denial.reason, malformed);
    let answer = policy.answer(&denial, NOW);
    let headers: Vec<_> = answer.headers().collect();
    assert_eq!(
        headers,
        [
            (
                "WWW-Authenticate",
                r#"Bearer realm="api", error="invalid_request""#.into()
            ),
            ("Cache-Control", "no-store".into()),
            ("Content-Type", "application/json".into()),
        ]
    );
    assert!(answer.body.contains("malformed"));
}

#[test]
fn the_host_is_asked_only_for_what_is_needed_and_in_order() {
    use crate::gateway::requirements::Expected;

    let mut requirements = TokenRequirements::default();
    requirements
        .add_requirement("tenant", vec![Expected::Slot(3)])
        .unwrap();
    let policy = AccessPolicy::from(Settings {
        requirements: Arc::new(requirements),
        ..Settings::default()
    });
    let credentials = bearer().credentials();
    let ask = |claims, sender: Result<Proven, SenderError>| {
        let active = active(claims);
        let asked = std::cell::RefCell::new(Vec::new());
        let check_sender = |_: &&Active| {
            asked.borrow_mut().push("sender".to_owned());
            sender
        };
        let mut values = |slot: usize| {
            asked.borrow_mut().push(format!("slot {slot}"));
            Some(&b"acme"[..])
        };
        let resolved = Resolved::Active(&active);
        let decision = policy.decide(&credentials, resolved, NOW, check_sender, &mut values);
        let detail = match decision {
            Decision::Denied(denial) => denial.reason.detail().to_owned(),
            Decision::Admitted(_) => "ok".to_owned(),
            Decision::Anonymous => "anonymous".to_owned(),
        };
        (detail, asked.into_inner().join(", "))
    };
    let proven = Ok(Proven::default());
    let said = |detail: &str, asked: &str| (detail.to_owned(), asked.to_owned());
    assert_eq!(ask(json!({"tenant": "acme"}), proven), said("ok", "slot 3"));
    assert_eq!(
        ask(json!({"tenant": "other"}), proven),
        said("claim:tenant", "slot 3")
    );
    assert_eq!(
        ask(json!({"tenant": "acme", "cnf": {}}), proven),
        said("ok", "sender, slot 3")
    );
    assert_eq!(
        ask(json!({"cnf": {}}), Err(SenderError::ProofReplayed)),
        said("proof_replayed", "sender")
    );
}

#[test]
fn a_verdict_on_nothing_lets_nothing_through() {
    let policy = policy(&[("optional", "on")]);
    let active = active(json!({}));
    let nothing = Credentials::default();
    let sender = |_: &&Active| Ok(Proven::default());
    for resolved in [Resolved::Active(&active), Resolved::Inactive] {
        let decision = policy.decide(&nothing, resolved, NOW, sender, &mut |_| None);
        let Decision::Denied(denial) = decision else {
            panic!("it is let in");
        };
        assert_eq!(denial.reason, DenialReason::Failed);
        assert_eq!(policy.answer(&denial, NOW).status, 500);
    }
    let mut malformed = Credentials::default();
    malformed.add_authorization([&b"Bearer"[..]].into_iter());
    let resolved = Resolved::Active(&active);
    let decision = policy.decide(&malformed, resolved, NOW, sender, &mut |_| None);
    assert!(matches!(decision, Decision::Denied(denial) if denial.outcome() == Outcome::Malformed));
}

/// The headers that an upstream receives for these headers of a request.
fn upstream(policy: &AccessPolicy, admitted: bool, headers: &[(&str, &str)]) -> Vec<String> {
    let active = active(json!({}));
    let admitted = admitted.then(|| Admitted {
        active: &active,
        proven: Proven::default(),
        in_query: false,
    });
    let mut left: Vec<(String, String)> = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let fields = headers
        .iter()
        .map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    policy.change_request(admitted.as_ref(), fields, &mut |change| {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        match change {
            HeaderChange::Remove(removed) => {
                let removed = text(removed);
                left.retain(|(name, _)| !name.eq_ignore_ascii_case(&removed));
            }
            HeaderChange::Set(set, value) => {
                left.retain(|(name, _)| !name.eq_ignore_ascii_case(set));
                left.push((set.to_owned(), text(&value)));
            }
        }
    });
    let jwt = active.jwt().unwrap();
    left.iter()
        .map(|(name, value)| format!("{name}: {}", value.replace(jwt, "JWT")))
        .collect()
}

#[test]
fn upstream_gets_the_jwt_and_nothing_of_the_token() {
    let everywhere = policy(&[(
        "source",
        "authorization header X-Token cookie session query access_token",
    )]);
    let client = [
        ("Host", "h"),
        ("authorization", "Bearer 8f3c0a52"),
        ("X_Token", "8f3c0a52"),
        ("Cookie", "a=b; session=8f3c0a52"),
        ("X-Jwt", "forged"),
    ];
    assert_eq!(
        upstream(&everywhere, true, &client),
        [
            "Host: h",
            "X-Jwt: forged",
            "Cookie: a=b",
            "Authorization: Bearer JWT"
        ]
    );
    assert_eq!(
        upstream(&everywhere, false, &client),
        ["Host: h", "X-Jwt: forged", "Cookie: a=b"]
    );
    let forward = policy(&[("forward", "header X-Jwt"), ("source", "header X-Jwt")]);
    assert_eq!(
        upstream(
            &forward,
            true,
            &[("x_jwt", "a"), ("X-JWT", "b"), ("Authorization", "c")]
        ),
        ["X-Jwt: JWT"]
    );
    assert!(upstream(&forward, false, &[("x-jwt", "a"), ("Authorization", "c")]).is_empty());
    assert_eq!(
        everywhere.change_target(b"/a?access_token=x&b").as_deref(),
        Some(&b"/a?b"[..])
    );
}

proptest! {
    #[test]
    fn whatever_is_set_an_answer_is_one_line(key in proptest::sample::select(AccessPolicy::keys()), value in any::<String>()) {
        let mut policy = AccessPolicy::default();
        let _ = policy.set(key, &value);
        for denied in [
            without_token(&policy, None),
            inactive(&policy, None),
        ] {
            let challenge = denied.challenge.unwrap_or_default();
            prop_assert!(!challenge.contains(char::is_control), "{:?}", challenge);
        }
    }
}
