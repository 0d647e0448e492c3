use std::collections::HashSet;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::jwt::testing::key;
use crate::jwt::{SigningKey, check_compact, test_jwt};

const NOW: i64 = 1_700_000_000;
const TOKEN: &str = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU";
const URI: &str = "https://resource.example.org/protectedresource";

fn token() -> Token<'static> {
    Token::parse(TOKEN.as_bytes()).unwrap()
}

fn active(claims: &Value) -> Active {
    let jwt = test_jwt(&claims.to_string());
    let claims = Claims::from_json(&claims.to_string()).unwrap();
    Active::new(&check_compact(jwt.as_bytes()).unwrap(), claims)
}

fn bound_to(key: &SigningKey) -> Active {
    active(&json!({"cnf": {"jkt": key.kid()}}))
}

/// The public key as a client includes it in a proof.
fn jwk(key: &SigningKey) -> Value {
    let mut jwk = key.public_jwk();
    for name in ["kid", "alg", "use"] {
        jwk.as_object_mut().unwrap().remove(name);
    }
    jwk
}

fn ath() -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, TOKEN.as_bytes()))
}

fn header(key: &SigningKey) -> Value {
    json!({"typ": "dpop+jwt", "alg": key.algorithm().as_str(), "jwk": jwk(key)})
}

fn claims() -> Value {
    json!({"jti": "e1j3V_bKic8-LAEB", "htm": "GET", "htu": URI, "iat": NOW, "ath": ath()})
}

fn sign(key: &SigningKey, header: &Value, claims: &Value) -> String {
    key.sign_parts(header.to_string().as_bytes(), claims.to_string().as_bytes())
}

/// A proof with changed members: `null` removes one.
fn with(header_of: Value, claims_of: Value) -> String {
    let key = key(Algorithm::ES256);
    let merged = |mut all: Value, other: Value| {
        for (name, value) in other.as_object().unwrap() {
            match value {
                Value::Null => drop(all.as_object_mut().unwrap().remove(name)),
                value => all[name] = value.clone(),
            }
        }
        all
    };
    sign(
        &key,
        &merged(header(&key), header_of),
        &merged(claims(), claims_of),
    )
}

fn says(claims: Value) -> String {
    with(json!({}), claims)
}

/// A valid request, of which tests change one part.
#[derive(Clone)]
struct Asked<'a> {
    active: &'a Active,
    scheme: Scheme,
    method: &'a str,
    uri: &'a str,
    certificate: Option<Thumbprint>,
    rules: ProofRules,
    now: i64,
    used: FirstUse,
}

impl<'a> Asked<'a> {
    fn new(active: &'a Active) -> Self {
        Asked {
            active,
            scheme: Scheme::Dpop,
            method: "GET",
            uri: URI,
            certificate: None,
            rules: ProofRules::default(),
            now: NOW,
            used: FirstUse::First,
        }
    }

    /// The result of the check, and the recorded use of the proof.
    fn noting(
        &self,
        proof: Proof<'_>,
    ) -> (Result<Proven, SenderError>, Option<(ProofId, ProofTime)>) {
        let mut noted = None;
        let said = check(
            self.active,
            token(),
            &RequestContext {
                scheme: self.scheme,
                method: self.method.as_bytes(),
                uri: Uri::Whole(self.uri.as_bytes()),
                proof,
                certificate: &|| self.certificate,
            },
            &self.rules,
            self.now,
            &mut |id, time| {
                assert_eq!(noted.replace((*id, time)), None, "noted twice");
                self.used
            },
        );
        (said, noted)
    }

    fn with(&self, proof: &str) -> Result<Proven, SenderError> {
        let (said, noted) = self.noting(Proof::One(proof.as_bytes()));
        let noted_wanted = match said {
            Ok(_) => true,
            Err(error) => error == SenderError::ProofReplayed || self.used != FirstUse::First,
        };
        assert_eq!(noted.is_some(), noted_wanted, "{said:?}");
        said
    }
}

/// The error for a proof for a token that is bound to the P-256 key.
fn refused(proof: &str) -> SenderError {
    let active = bound_to(&key(Algorithm::ES256));
    Asked::new(&active).with(proof).unwrap_err()
}

fn accepted(proof: &str) {
    let active = bound_to(&key(Algorithm::ES256));
    assert_eq!(Asked::new(&active).with(proof), Ok(Proven::default()));
}

#[test]
fn a_proof_of_each_algorithm_is_accepted() {
    for &algorithm in Algorithm::ALL {
        let key = key(algorithm);
        let active = bound_to(&key);
        let proof = sign(&key, &header(&key), &claims());
        let said = Asked::new(&active).with(&proof);
        assert_eq!(said, Ok(Proven::default()), "{algorithm}");
    }
}

/// The example of RFC 9449 §7.1, with the thumbprint of §6.1.
#[test]
fn the_proof_of_rfc_9449_is_accepted() {
    let proof = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6Ik\
                 VDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCR\
                 nMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JE\
                 QSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIj\
                 oiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0Z\
                 WRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNF\
                 c05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71E\
                 OptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA";
    let active = active(&json!({"cnf": {"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}}));
    let mut asked = Asked::new(&active);
    assert_eq!(asked.with(proof), Err(SenderError::ProofIat));
    asked.now = 1_562_262_618;
    assert_eq!(asked.with(proof), Ok(Proven::default()));
    // One bit in each part of the JWT.
    for at in [5, 300, 500] {
        let mut other = proof.to_owned();
        let with = if &other[at..=at] == "A" { "B" } else { "A" };
        other.replace_range(at..=at, with);
        assert!(asked.with(&other).is_err(), "{at}");
    }
}

#[test]
fn a_token_that_is_bound_to_nothing_needs_nothing() {
    let active = active(&json!({"sub": "alice"}));
    let asked = Asked {
        scheme: Scheme::Bearer,
        ..Asked::new(&active)
    };
    for proof in [Proof::None, Proof::Several, Proof::One(b"junk")] {
        assert_eq!(asked.noting(proof), (Ok(Proven::default()), None));
    }
    let asked = Asked::new(&active);
    assert_eq!(asked.with(&says(json!({}))), Err(SenderError::NotBound));
}

#[test]
fn a_token_that_is_bound_is_not_a_bearer_token() {
    let key = key(Algorithm::ES256);
    let active = bound_to(&key);
    let asked = Asked {
        scheme: Scheme::Bearer,
        ..Asked::new(&active)
    };
    // The scheme stays wrong even with a proof.
    assert_eq!(asked.with(&says(json!({}))), Err(SenderError::Scheme));
    assert_eq!(asked.noting(Proof::None).0, Err(SenderError::Scheme));
}

#[test]
fn what_a_token_is_bound_to_and_cannot_be_read_is_not_passed_over() {
    let good = "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg0";
    for cnf in [
        json!({}),
        json!([]),
        json!("x"),
        json!(true),
        json!(false),
        json!(0),
        json!(""),
        json!({"jwk": {"kty": "EC"}}),
        json!({"kid": "1"}),
        json!({"x5t#S1": good}),
        json!({"JKT": good}),
        json!({"jkt": null}),
        json!({"jkt": 1}),
        json!({"jkt": [good]}),
        json!({"jkt": {"jkt": good}}),
        json!({"x5t#S256": null}),
        json!({"x5t#S256": ""}),
        json!({"x5t#S256": "short"}),
        json!({"x5t#S256": [good]}),
        json!({"x5t#S256": format!("{good}=")}),
        // A valid member does not make up for an invalid one.
        json!({"x5t#S256": good, "jkt": 1}),
        json!({"x5t#S256": 1, "jkt": good}),
    ] {
        let active = active(&json!({"cnf": cnf}));
        for scheme in [Scheme::Bearer, Scheme::Dpop] {
            let asked = Asked {
                scheme,
                certificate: Thumbprint::parse(good),
                ..Asked::new(&active)
            };
            assert_eq!(
                asked.with(&says(json!({}))),
                Err(SenderError::ConfirmationUnknown),
                "{cnf}"
            );
        }
    }
    // Unknown members are allowed beside a known one.
    let key = key(Algorithm::ES256);
    let active = active(&json!({"cnf": {"jkt": key.kid(), "kid": 1}}));
    assert!(Asked::new(&active).with(&says(json!({}))).is_ok());
}

#[test]
fn a_bound_token_whose_claims_cannot_be_read_is_refused() {
    let jwt = test_jwt("{}");
    let unread = crate::verdict::Unread {
        exp: None,
        bound: true,
        claims_size: 0,
    };
    let compact = check_compact(jwt.as_bytes()).unwrap();
    let active = Active::unread(&compact, "{".into(), unread);
    for scheme in [Scheme::Bearer, Scheme::Dpop] {
        let asked = Asked {
            scheme,
            ..Asked::new(&active)
        };
        assert_eq!(
            asked.with(&says(json!({}))),
            Err(SenderError::ConfirmationUnknown)
        );
    }
}

#[test]
fn a_token_that_is_bound_to_a_certificate_passes_with_that_one() {
    let [own, other] = [b"own", b"oth"].map(|der| Thumbprint::of_der(der));
    let text = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, b"own"));
    let bound = active(&json!({"cnf": {"x5t#S256": text}}));
    let asked = |certificate| Asked {
        scheme: Scheme::Bearer,
        certificate,
        ..Asked::new(&bound)
    };
    let said = |asked: Asked<'_>| asked.noting(Proof::None);
    assert_eq!(said(asked(Some(own))), (Ok(Proven::default()), None));
    assert_eq!(said(asked(None)).0, Err(SenderError::CertificateMissing));
    assert_eq!(
        said(asked(Some(other))).0,
        Err(SenderError::CertificateOther)
    );
    let dpop = Asked {
        scheme: Scheme::Dpop,
        ..asked(Some(own))
    };
    assert_eq!(dpop.with(&says(json!({}))), Err(SenderError::NotBound));

    // A token that is bound to both needs both.
    let key = key(Algorithm::ES256);
    let both = active(&json!({"cnf": {"x5t#S256": text, "jkt": key.kid()}}));
    let asked = |certificate| Asked {
        certificate,
        ..Asked::new(&both)
    };
    let proof = says(json!({}));
    assert!(asked(Some(own)).with(&proof).is_ok());
    assert_eq!(
        asked(None).with(&proof),
        Err(SenderError::CertificateMissing)
    );
    assert_eq!(
        asked(Some(other)).with(&proof),
        Err(SenderError::CertificateOther)
    );
    assert_eq!(
        asked(Some(own)).with(&says(json!({"htm": "PUT"}))),
        Err(SenderError::ProofHtm)
    );
}

#[test]
fn the_certificate_is_looked_at_for_tokens_that_are_bound_to_one_only() {
    let key = key(Algorithm::ES256);
    for active in [active(&json!({})), bound_to(&key)] {
        let presented = RequestContext {
            scheme: Scheme::Bearer,
            method: b"GET",
            uri: Uri::Whole(URI.as_bytes()),
            proof: Proof::None,
            certificate: &|| panic!("asked for"),
        };
        let _ = check(
            &active,
            token(),
            &presented,
            &ProofRules::default(),
            NOW,
            &mut |_, _| FirstUse::First,
        );
    }
}

#[test]
fn exactly_one_header_it_must_be() {
    let active = bound_to(&key(Algorithm::ES256));
    let asked = Asked::new(&active);
    assert_eq!(
        asked.noting(Proof::None),
        (Err(SenderError::ProofMissing), None)
    );
    assert_eq!(
        asked.noting(Proof::Several),
        (Err(SenderError::ProofSeveral), None)
    );
    let proof = says(json!({}));
    for several in [format!("{proof},{proof}"), format!("{proof}, {proof}")] {
        assert_eq!(asked.with(&several), Err(SenderError::ProofMalformed));
    }
}

#[test]
fn what_is_not_a_well_formed_jwt_is_refused() {
    let proof = says(json!({}));
    let parts: Vec<_> = proof.split('.').collect();
    let [head, body, signature] = parts[..] else {
        panic!("three parts")
    };
    for bad in [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        "junk".to_owned(),
        format!("{head}.{body}"),
        format!("{head}.{body}."),
        format!("{head}..{signature}"),
        format!(".{body}.{signature}"),
        format!("{proof}."),
        format!("{proof}.{signature}"),
        format!("{proof}.{signature}.{signature}"),
        format!("{proof}="),
        format!("{proof} "),
        format!(" {proof}"),
        format!("{proof}\n"),
        format!("{proof}\0"),
        format!("{proof}é"),
        format!("DPoP {proof}"),
        format!("{head}.{body}.A"),
        format!("{head}.A.{signature}"),
        format!("A.{body}.{signature}"),
        format!("{head}.{}.{signature}", URL_SAFE_NO_PAD.encode("[]")),
        format!("{}.{body}.{signature}", URL_SAFE_NO_PAD.encode("null")),
    ] {
        assert_eq!(refused(&bad), SenderError::ProofMalformed, "{bad:?}");
    }
}

#[test]
fn a_name_that_stands_twice_is_refused_at_every_depth() {
    let key = key(Algorithm::ES256);
    let [head, body] = [header(&key).to_string(), claims().to_string()];
    let twice = |text: &str, member: &str| text.replacen('{', &format!("{{{member},"), 1);
    for (head, body) in [
        (twice(&head, r#""typ":"dpop+jwt""#), body.clone()),
        (twice(&head, r#""alg":"none""#), body.clone()),
        (
            twice(&head, &format!(r#""jwk":{}"#, jwk(&key))),
            body.clone(),
        ),
        (
            head.replace(r#""jwk":{"#, r#""jwk":{"kty":"EC","#),
            body.clone(),
        ),
        (head.clone(), twice(&body, r#""jti":"another""#)),
        (
            head.clone(),
            twice(&body, r#""htu":"https://other.example""#),
        ),
        (head.clone(), twice(&body, r#""x":{"a":1,"a":2}"#)),
    ] {
        let proof = key.sign_parts(head.as_bytes(), body.as_bytes());
        assert_eq!(
            refused(&proof),
            SenderError::ProofMalformed,
            "{head} {body}"
        );
    }
    accepted(&key.sign_parts(head.as_bytes(), body.as_bytes()));
}

#[test]
fn a_proof_of_8_kib_passes_and_none_that_is_longer() {
    let padded = |length: usize| says(json!({"x": "a".repeat(length)}));
    let fits = (1..MAX_PROOF_LENGTH)
        .rev()
        .map(|length| length * 3 / 4)
        .find(|&length| padded(length).len() <= MAX_PROOF_LENGTH)
        .unwrap();
    assert!(padded(fits).len() > MAX_PROOF_LENGTH - 4);
    accepted(&padded(fits));
    assert_eq!(refused(&padded(fits + 4)), SenderError::ProofMalformed);
    assert_eq!(refused(&"a".repeat(1 << 20)), SenderError::ProofMalformed);
    // Deeply nested: the JSON parser limits the depth.
    let deep = format!(r#"{{"typ":"dpop+jwt","x":{}"#, "[".repeat(4000));
    let deep = key(Algorithm::ES256).sign_parts(deep.as_bytes(), b"{}");
    assert_eq!(refused(&deep), SenderError::ProofMalformed);
}

#[test]
fn each_thing_that_a_header_must_have_it_must_have() {
    for typ in [
        json!(null),
        json!("JWT"),
        json!("dpop"),
        json!("DPOP+JWT"),
        json!("at+jwt"),
        json!("application/dpop+jwt"),
        json!(""),
        json!(1),
        json!(["dpop+jwt"]),
    ] {
        assert_eq!(
            refused(&with(json!({"typ": typ}), json!({}))),
            SenderError::ProofType,
            "{typ}"
        );
    }
    for alg in [
        json!(null),
        json!("none"),
        json!("None"),
        json!("HS256"),
        json!("HS512"),
        json!("es256"),
        json!("ES256K"),
        json!("ES512"),
        json!("RSA-OAEP"),
        json!(""),
        json!(1),
    ] {
        assert_eq!(
            refused(&with(json!({"alg": alg}), json!({}))),
            SenderError::ProofAlgorithm,
            "{alg}"
        );
    }
    for other in [
        json!({"crit": ["exp"]}),
        json!({"crit": []}),
        json!({"b64": false, "crit": ["b64"]}),
        json!({"b64": false}),
    ] {
        assert_eq!(
            refused(&with(other.clone(), json!({}))),
            SenderError::ProofMalformed,
            "{other}"
        );
    }
}

#[test]
fn an_unsigned_proof_and_one_with_an_hmac_under_the_public_key_are_refused() {
    let key = key(Algorithm::ES256);
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let mut head = header(&key);
    head["alg"] = "none".into();
    for signature in ["", "AAAA"] {
        let proof = format!("{}.{}.{signature}", encode(&head), encode(&claims()));
        assert!(matches!(
            refused(&proof),
            SenderError::ProofMalformed | SenderError::ProofAlgorithm
        ));
    }
    head["alg"] = "HS256".into();
    let message = format!("{}.{}", encode(&head), encode(&claims()));
    let secret = aws_lc_rs::hmac::Key::new(
        aws_lc_rs::hmac::HMAC_SHA256,
        jwk(&key).to_string().as_bytes(),
    );
    let tag = aws_lc_rs::hmac::sign(&secret, message.as_bytes());
    let proof = format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag));
    assert_eq!(refused(&proof), SenderError::ProofAlgorithm);
}

#[test]
fn the_key_must_be_a_public_one_that_goes_with_the_algorithm() {
    let key = key(Algorithm::ES256);
    for jwk in [
        json!(null),
        json!("x"),
        json!([]),
        json!({}),
        json!({"kty": "oct", "k": "AAAA"}),
        json!({"kty": "EC"}),
        json!({"kty": "EC", "crv": "P-256", "x": "AA"}),
        json!({"kty": "XX", "crv": "P-256", "x": "AA", "y": "AA"}),
        json!({"kty": "EC", "crv": "P-256", "x": 1, "y": 2}),
    ] {
        assert_eq!(
            refused(&with(json!({"jwk": jwk}), json!({}))),
            SenderError::ProofJwk,
            "{jwk}"
        );
    }
    // These have the right thumbprint, which is computed from some members only.
    for member in [
        json!({"d": "AAAA"}),
        json!({"k": "AAAA"}),
        json!({"use": "enc"}),
        json!({"key_ops": ["sign"]}),
        json!({"alg": "ES384"}),
        json!({"alg": "RS256"}),
        json!({"kid": 1}),
    ] {
        let mut jwk = jwk(&key);
        for (name, value) in member.as_object().unwrap() {
            jwk[name] = value.clone();
        }
        assert_eq!(
            refused(&with(json!({"jwk": jwk}), json!({}))),
            SenderError::ProofJwk,
            "{member}"
        );
    }
    for alg in ["ES384", "EdDSA", "RS256", "PS256"] {
        assert_eq!(
            refused(&with(json!({"alg": alg}), json!({}))),
            SenderError::ProofJwk,
            "{alg}"
        );
    }
    // A key that is not a point of its curve. A token may be bound to it all the same.
    let wrong = json!({"kty": "EC", "crv": "P-256", "x": "A".repeat(43), "y": "A".repeat(43)});
    let text = format!(
        r#"{{"crv":"P-256","kty":"EC","x":{},"y":{}}}"#,
        wrong["x"], wrong["y"]
    );
    let jkt = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, text.as_bytes()));
    let active = active(&json!({"cnf": {"jkt": jkt}}));
    assert_eq!(
        Asked::new(&active).with(&with(json!({"jwk": wrong}), json!({}))),
        Err(SenderError::ProofJwk)
    );
}

#[test]
fn a_short_rsa_key_is_no_key() {
    let n = URL_SAFE_NO_PAD.encode([&[0xc5; 127][..], &[1]].concat());
    let text = format!(r#"{{"e":"AQAB","kty":"RSA","n":"{n}"}}"#);
    let jkt = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, text.as_bytes()));
    let active = active(&json!({"cnf": {"jkt": jkt}}));
    let jwk: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        Asked::new(&active).with(&with(json!({"alg": "RS256", "jwk": jwk}), json!({}))),
        Err(SenderError::ProofJwk)
    );
}

#[test]
fn other_keys_in_the_header_are_not_looked_at() {
    let other = crate::jwt::testing::key(Algorithm::EdDSA);
    for member in [
        json!({"x5c": ["MIIB"]}),
        json!({"x5u": "https://evil.example/cert"}),
        json!({"jku": "https://evil.example/jwks"}),
        json!({"kid": other.kid()}),
        json!({"x5t#S256": other.kid()}),
    ] {
        accepted(&with(member, json!({})));
    }
    // Nor do they replace the missing member.
    assert_eq!(
        refused(&with(json!({"x5c": ["MIIB"], "jwk": null}), json!({}))),
        SenderError::ProofJwk
    );
}

#[test]
fn a_proof_of_another_key_is_refused_and_so_is_one_under_a_borrowed_name() {
    let [own, other] = [Algorithm::ES256, Algorithm::EdDSA].map(key);
    let active = bound_to(&own);
    let asked = Asked::new(&active);
    let proof = sign(&other, &header(&other), &claims());
    assert_eq!(asked.with(&proof), Err(SenderError::ProofKey));
    // The right key in the header, and a signature of another key of the same kind.
    let thief = SigningKey::generate().unwrap();
    let proof = sign(&thief, &header(&own), &claims());
    assert_eq!(asked.with(&proof), Err(SenderError::ProofSignature));
    // A token that is bound to an invalid thumbprint is bound to no existing key.
    for jkt in [
        String::new(),
        format!("{}=", own.kid()),
        own.kid().to_lowercase(),
    ] {
        let active = super::tests::active(&json!({"cnf": {"jkt": jkt}}));
        assert_eq!(
            Asked::new(&active).with(&says(json!({}))),
            Err(SenderError::ProofKey)
        );
    }
}

#[test]
fn each_part_is_signed() {
    let proof = says(json!({}));
    let other = says(json!({"jti": "another"}));
    let [one, two] = [&proof, &other].map(|jwt| jwt.split('.').collect::<Vec<_>>());
    for parts in [
        [one[0], two[1], one[2]],
        [one[0], one[1], two[2]],
        [two[0], two[1], one[2]],
    ] {
        assert_eq!(refused(&parts.join(".")), SenderError::ProofSignature);
    }
    for signature in ["AA", &"A".repeat(86), &"_".repeat(86)[..84], &one[2][2..]] {
        let proof = format!("{}.{}.{signature}", one[0], one[1]);
        assert_eq!(refused(&proof), SenderError::ProofSignature, "{signature}");
    }
}

#[test]
fn the_method_is_that_of_the_request() {
    for htm in [
        json!(null),
        json!("POST"),
        json!("get"),
        json!("Get"),
        json!("GET "),
        json!(""),
        json!(1),
        json!(["GET"]),
    ] {
        assert_eq!(
            refused(&says(json!({"htm": htm}))),
            SenderError::ProofHtm,
            "{htm}"
        );
    }
}

#[test]
fn the_uri_is_that_of_the_request_however_it_is_written() {
    for htu in [
        "HTTPS://Resource.Example.Org/protectedresource",
        "https://resource.example.org:443/protectedresource",
        "https://resource.example.org:/protectedresource",
        "https://resource.example.org/%70rotectedresource",
        "https://resource.example.org/./x/../protectedresource",
        "https://resource.example.org/protectedresource?a=b",
        "https://resource.example.org/protectedresource#a",
    ] {
        accepted(&says(json!({"htu": htu})));
    }
    for htu in [
        json!(null),
        json!(1),
        json!([URI]),
        json!(""),
        json!("/protectedresource"),
        json!("resource.example.org/protectedresource"),
        json!("http://resource.example.org/protectedresource"),
        json!("https://resource.example.org:8443/protectedresource"),
        json!("https://resource.example.org./protectedresource"),
        json!("https://resource.example.org"),
        json!("https://resource.example.org/"),
        json!("https://resource.example.org/protectedresource/"),
        json!("https://resource.example.org/Protectedresource"),
        json!("https://resource.example.org/protectedresource%00"),
        json!("https://resource.example.org/protectedresource "),
        json!("https://resource.example.org\\protectedresource"),
        json!("https://user@resource.example.org/protectedresource"),
        json!("https://resource.example.org@evil.example/protectedresource"),
        json!("https://evil.example/protectedresource"),
        json!("https://evil.example/?https://resource.example.org/protectedresource"),
        json!("https://resourcе.example.org/protectedresource"),
        json!("https://resource.example.org/protectedresourcé"),
        json!("https://[::1]/protectedresource"),
    ] {
        assert_eq!(
            refused(&says(json!({"htu": htu}))),
            SenderError::ProofHtu,
            "{htu}"
        );
    }
    let active = bound_to(&key(Algorithm::ES256));
    for (uri, htu, passes) in [
        ("https://[::1]/a?b", "https://[0:0:0:0:0:0:0:1]:443/a", true),
        ("http://h:8080/a%20b", "http://h:8080/a%20b", true),
        ("http://h:8080/a", "http://h/a", false),
        // An ambiguous URI matches no URI, not even itself.
        ("https://u@h/", "https://u@h/", false),
        ("/a", "/a", false),
        ("", "", false),
        ("https://h/a b", "https://h/a b", false),
    ] {
        let asked = Asked {
            uri,
            ..Asked::new(&active)
        };
        let said = asked.with(&says(json!({"htu": htu})));
        let wanted = if passes {
            Ok(Proven::default())
        } else {
            Err(SenderError::ProofHtu)
        };
        assert_eq!(said, wanted, "{uri}");
    }
}

#[test]
fn a_proof_is_accepted_for_its_window_and_not_a_second_longer() {
    let active = bound_to(&key(Algorithm::ES256));
    let asked = Asked::new(&active);
    for (age, passes) in [
        (-11, false),
        (-10, true),
        (0, true),
        (60, true),
        (61, false),
        (i64::MAX, false),
    ] {
        let proof = says(json!({"iat": NOW.saturating_sub(age)}));
        let wanted = if passes {
            Ok(Proven::default())
        } else {
            Err(SenderError::ProofIat)
        };
        assert_eq!(asked.with(&proof), wanted, "{age}");
    }
    let mut wide = Asked::new(&active);
    wide.rules.window = Duration::from_secs(300);
    assert!(wide.with(&says(json!({"iat": NOW - 300}))).is_ok());
    assert!(wide.with(&says(json!({"iat": NOW - 301}))).is_err());
    wide.rules.window = Duration::MAX;
    assert!(wide.with(&says(json!({"iat": 0}))).is_ok());
    let mut narrow = Asked::new(&active);
    narrow.rules.window = Duration::ZERO;
    assert!(narrow.with(&says(json!({"iat": NOW}))).is_ok());
    assert!(narrow.with(&says(json!({"iat": NOW - 1}))).is_err());

    assert!(asked.with(&says(json!({"iat": NOW as f64 + 0.5}))).is_ok());
    for iat in [json!(null), json!("1700000000"), json!([NOW]), json!(true)] {
        assert_eq!(
            refused(&says(json!({"iat": iat}))),
            SenderError::ProofMalformed,
            "{iat}"
        );
    }
    for iat in [json!(0), json!(-NOW), json!(i64::MIN), json!(u64::MAX)] {
        assert_eq!(refused(&says(json!({"iat": iat}))), SenderError::ProofIat);
    }
    // Milliseconds, a common mistake.
    assert_eq!(
        refused(&says(json!({"iat": NOW * 1000}))),
        SenderError::ProofIat
    );
    // Optional claims must hold if they are present.
    accepted(&says(json!({"exp": NOW + 1, "nbf": NOW + 10})));
    for other in [json!({"exp": NOW}), json!({"nbf": NOW + 11})] {
        assert_eq!(refused(&says(other)), SenderError::ProofIat);
    }
    assert_eq!(
        refused(&says(json!({"exp": "soon"}))),
        SenderError::ProofMalformed
    );
}

#[test]
fn a_proof_has_a_name_of_bounded_length() {
    accepted(&says(json!({"jti": "x"})));
    accepted(&says(json!({"jti": "x".repeat(MAX_JTI_LENGTH)})));
    accepted(&says(json!({"jti": "ünïcödé \u{0}"})));
    for jti in [
        json!(null),
        json!(""),
        json!(1),
        json!(["x"]),
        json!("x".repeat(MAX_JTI_LENGTH + 1)),
        json!("x".repeat(4000)),
    ] {
        assert_eq!(
            refused(&says(json!({"jti": jti}))),
            SenderError::ProofJti,
            "{jti}"
        );
    }
}

#[test]
fn a_proof_is_for_one_token() {
    let of =
        |token: &str| URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, token.as_bytes()));
    for ath in [
        json!(null),
        json!(""),
        json!(1),
        json!(of("another")),
        json!(of(&format!("{TOKEN}="))),
        json!(format!("{}=", of(TOKEN))),
        json!(TOKEN),
    ] {
        assert_eq!(
            refused(&says(json!({"ath": ath}))),
            SenderError::ProofAth,
            "{ath}"
        );
    }
}

#[test]
fn where_nonces_are_asked_for_a_proof_has_the_right_one() {
    let nonces = Arc::new(Nonces::new(&[1; 32], Duration::from_secs(100)));
    let active = bound_to(&key(Algorithm::ES256));
    let mut asked = Asked::new(&active);
    asked.rules.nonces = Some(Arc::clone(&nonces));
    let said = |nonce: Value| asked.with(&says(json!({"nonce": nonce})));
    assert_eq!(
        said(nonces.current(NOW).into()),
        Ok(Proven { renew_nonce: false })
    );
    assert_eq!(
        said(nonces.current(NOW - 100).into()),
        Ok(Proven { renew_nonce: true })
    );
    for nonce in [
        json!(null),
        json!(""),
        json!(1),
        json!("eyJ7S_zG.eyJH0-Z.HX4w-7v"),
        json!(nonces.current(NOW - 200)),
        json!(nonces.current(NOW + 100)),
    ] {
        assert_eq!(said(nonce.clone()), Err(SenderError::ProofNonce), "{nonce}");
    }
    // Without nonces, a proof may have any.
    accepted(&says(json!({"nonce": "any"})));
}

#[test]
fn what_the_store_cannot_promise_is_not_passed_over() {
    let active = bound_to(&key(Algorithm::ES256));
    let proof = says(json!({}));
    for (used, error) in [
        (FirstUse::Replayed, SenderError::ProofReplayed),
        (FirstUse::Full, SenderError::ReplaysFull),
        (FirstUse::Lost, SenderError::ReplaysLost),
        (FirstUse::Unsupported, SenderError::ReplaysLost),
    ] {
        let asked = Asked {
            used,
            ..Asked::new(&active)
        };
        assert_eq!(asked.with(&proof), Err(error));
    }
}

#[test]
fn a_proof_is_noted_for_longer_than_it_is_accepted() {
    let active = bound_to(&key(Algorithm::ES256));
    for age in [-10, 0, 30, 60] {
        let proof = says(json!({"iat": NOW - age}));
        let (_, noted) = Asked::new(&active).noting(Proof::One(proof.as_bytes()));
        let (_, time) = noted.unwrap();
        let accepted_until = NOW - age + 60;
        assert_eq!(
            time.left(),
            Duration::from_secs((accepted_until - NOW) as u64 + 2)
        );
    }
}

#[test]
fn the_name_of_a_proof_is_that_of_its_key_and_its_jti() {
    let name = |active: &Active, asked: &Asked<'_>, proof: &str| {
        let asked = Asked {
            active,
            ..asked.clone()
        };
        asked.noting(Proof::One(proof.as_bytes())).1.unwrap().0
    };
    let [one, other] = [Algorithm::ES256, Algorithm::EdDSA].map(key);
    let [to_one, to_other] = [&one, &other].map(bound_to);
    let asked = Asked::new(&to_one);
    let first = name(&to_one, &asked, &says(json!({})));
    // Signed again, at another time, for another URI: the same identifier.
    assert_eq!(name(&to_one, &asked, &says(json!({"iat": NOW - 5}))), first);
    let elsewhere = Asked {
        uri: "https://h/",
        method: "PUT",
        ..asked.clone()
    };
    let proof = says(json!({"htu": "https://h/", "htm": "PUT"}));
    assert_eq!(name(&to_one, &elsewhere, &proof), first);

    let mut names = HashSet::from([first.0]);
    for jti in ["E1j3V_bKic8-LAEB", "e1j3V_bKic8-LAE", "e1j3V_bKic8-LAEBB"] {
        assert!(names.insert(name(&to_one, &asked, &says(json!({"jti": jti}))).0));
    }
    let proof = sign(&other, &header(&other), &claims());
    assert!(names.insert(name(&to_other, &asked, &proof).0));
}

#[test]
fn each_error_has_a_word_of_its_own_and_says_what_the_answer_is() {
    use SenderError::*;
    let all = [
        NotPresented,
        Scheme,
        NotBound,
        ConfirmationUnknown,
        CertificateMissing,
        CertificateOther,
        ProofMissing,
        ProofSeveral,
        ProofMalformed,
        ProofType,
        ProofAlgorithm,
        ProofJwk,
        ProofSignature,
        ProofHtm,
        ProofHtu,
        ProofIat,
        ProofJti,
        ProofAth,
        ProofKey,
        ProofNonce,
        ProofReplayed,
        ReplaysFull,
        ReplaysLost,
    ];
    let mut words = HashSet::new();
    for error in all {
        assert!(words.insert(error.reason()));
        assert!(
            error
                .reason()
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        );
        // The text is put in quotes in a header.
        let text = error.to_string();
        assert!(text.is_ascii() && !text.contains(['"', '\\']));
        if let Some(word) = error.error() {
            let proof_word = matches!(word, ErrorCode::InvalidDpopProof | ErrorCode::UseDpopNonce);
            assert!(proof_word || word == ErrorCode::InvalidToken);
            assert!(!proof_word || error.scheme() == crate::token::Scheme::Dpop);
        }
    }
    assert_eq!(ReplaysFull.error(), None);
    assert_eq!(ProofKey.error(), Some(ErrorCode::InvalidToken));
    assert_eq!(ProofNonce.error(), Some(ErrorCode::UseDpopNonce));
    assert_eq!(
        algorithms(),
        "ES256 ES384 EdDSA RS256 RS384 RS512 PS256 PS384 PS512"
    );
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic_and_none_that_are_not_a_proof_pass(
        bytes in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..200),
            "[A-Za-z0-9_.-]{0,200}".prop_map(String::into_bytes),
        ],
        cut in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let active = bound_to(&key(Algorithm::ES256));
        let asked = Asked::new(&active);
        prop_assert!(asked.noting(Proof::One(&bytes)).0.is_err());
        // A proof with one changed byte.
        static PROOF: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| says(json!({})));
        let mut other = PROOF.clone().into_bytes();
        let at = cut.index(other.len());
        if other[at] != byte {
            other[at] = byte;
            prop_assert!(asked.noting(Proof::One(&other)).0.is_err());
        }
        prop_assert!(asked.noting(Proof::One(&PROOF.as_bytes()[..at])).0.is_err());
    }
}
