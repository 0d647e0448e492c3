//! JWTs that are accepted, and above all those that are not.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::testing::{key, key_set, members, pem};
use super::super::{SigningKey, test_jwt_with};
use super::*;

const NOW: i64 = 1_700_000_000;

/// The requirements that allow everything that can be allowed.
const ANY: Expected<'static> = Expected {
    algorithms: Algorithm::ALL,
    types: None,
    issuer: None,
    audiences: None,
    now: NOW,
    leeway: 0,
};

fn es256() -> SigningKey {
    key(Algorithm::ES256)
}

fn set() -> KeySet {
    key_set(&[es256()])
}

/// A JWT of the P-256 key with this header, whatever it is.
fn with_header(header: &Value) -> String {
    es256().sign_parts(header.to_string().as_bytes(), b"{\"sub\":\"alice\"}")
}

/// One with this member in its header.
fn with_member(name: &str, value: Value) -> String {
    let mut header = json!({"alg": "ES256", "kid": es256().kid()});
    header[name] = value;
    with_header(&header)
}

fn of(claims: Value) -> String {
    es256().sign(None, &members(claims)).unwrap()
}

fn refused(jwt: &str, expected: &Expected<'_>) -> VerifyError {
    verify(jwt, &set(), expected).unwrap_err()
}

#[test]
fn what_a_key_signs_its_public_part_verifies_with_every_algorithm() {
    let keys: Vec<_> = Algorithm::ALL
        .iter()
        .map(|&algorithm| key(algorithm).with_kid(algorithm.as_str()))
        .collect();
    for key in &keys {
        let claims = members(json!({"sub": "alice", "exp": NOW + 1, "n": {"f": 0.1}}));
        let jwt = key.sign(Some("at+jwt"), &claims).unwrap();
        assert_eq!(
            verify(&jwt, &key_set(&keys), &ANY).unwrap(),
            claims,
            "{key:?}"
        );
    }
}

#[test]
fn examples_of_the_rfcs_are_verified() {
    let at = Expected {
        now: 1_300_819_000,
        ..ANY
    };
    // RFC 7515 §A.2 and §A.3, RFC 8037 §A.4.
    let rs256 = json!({
        "kty": "RSA", "e": "AQAB",
        "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZ\
              S-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2\
              R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcD\
              TW9gb54h4FRWyuXpoQ",
    });
    let es256 = json!({
        "kty": "EC", "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    });
    let ed25519 =
        json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    let keys = json!({"keys": [rs256, es256, ed25519]});
    let keys = KeySet::parse(keys.to_string().as_bytes()).unwrap();
    const PAYLOAD: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    for (header, signature) in [
        (
            "eyJhbGciOiJSUzI1NiJ9",
            "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CU\
             Ar7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_d\
             O--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0ig\
             cN_IoypGlUPQGe77Rw",
        ),
        (
            "eyJhbGciOiJFUzI1NiJ9",
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        ),
    ] {
        let jwt = format!("{header}.{PAYLOAD}.{signature}");
        assert_eq!(verify(&jwt, &keys, &at).unwrap()["iss"], "joe");
        let later = Expected {
            now: 1_300_819_380,
            ..ANY
        };
        assert_eq!(
            verify(&jwt, &keys, &later),
            Err(VerifyError::Expired(1_300_819_380))
        );
        let changed = jwt.replacen("qb2UiLA", "qb3UiLA", 1);
        assert_eq!(
            verify(&changed, &keys, &at),
            Err(VerifyError::UnknownKey(None))
        );
    }
    // Its signature is right; that its payload is not JSON is detected after that.
    let jws = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhi\
               jcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    assert_eq!(verify(jws, &keys, &at), Err(VerifyError::Payload));
    assert_eq!(
        verify(&jws.replacen("RXh", "RXg", 1), &keys, &at),
        Err(VerifyError::UnknownKey(None))
    );
}

#[test]
fn an_alg_that_is_none_is_refused_however_it_is_written() {
    let payload = r#"{"sub":"admin"}"#;
    for alg in [
        "none",
        "None",
        "NONE",
        "nOnE",
        " none",
        "none ",
        "",
        "n\u{f6}ne",
        "null",
    ] {
        let header = json!({"alg": alg}).to_string();
        let with_signature = test_jwt_with(&header, payload);
        assert_eq!(
            refused(&with_signature, &ANY),
            VerifyError::Algorithm(shown(alg))
        );
        // And with its signature taken off, as RFC 7515 §A.5 has it.
        let (unsigned, _) = with_signature.rsplit_once('.').unwrap();
        assert_eq!(
            refused(&format!("{unsigned}."), &ANY),
            VerifyError::NotJwt(JwtError::EmptyPart)
        );
        assert_eq!(
            refused(unsigned, &ANY),
            VerifyError::NotJwt(JwtError::NotThreeParts)
        );
    }
    for header in [
        json!({}),
        json!({"alg": null}),
        json!({"alg": 0}),
        json!({"alg": ["ES256"]}),
    ] {
        assert_eq!(
            refused(&with_header(&header), &ANY),
            VerifyError::NotJwt(JwtError::BadHeader)
        );
    }
}

#[test]
fn a_public_key_is_never_taken_for_a_shared_secret() {
    for signing in [key(Algorithm::RS256), es256(), key(Algorithm::EdDSA)] {
        let jwk = signing.public_jwk();
        let text = |name: &str| jwk[name].as_str().unwrap_or("").to_owned();
        let raw = |name: &str| URL_SAFE_NO_PAD.decode(text(name)).unwrap();
        let der = [raw("n"), raw("x"), raw("y")].concat();
        let set = super::super::jwks(std::slice::from_ref(&signing));
        for secret in [
            jwk.to_string().into_bytes(),
            set.clone().into_bytes(),
            der.clone(),
            pem("PUBLIC KEY", &der).into_bytes(),
            pem("PUBLIC KEY", &der).trim().as_bytes().to_vec(),
            pem("RSA PUBLIC KEY", &der).into_bytes(),
            text("n").into_bytes(),
            text("x").into_bytes(),
            raw("n"),
            raw("x"),
            Vec::new(),
        ] {
            for (alg, hash) in [
                ("HS256", hmac::HMAC_SHA256),
                ("HS384", hmac::HMAC_SHA384),
                ("HS512", hmac::HMAC_SHA512),
            ] {
                for header in [
                    json!({"alg": alg}),
                    json!({"alg": alg, "kid": signing.kid()}),
                    // The name that is allowed, with the signature of the one that is not.
                    json!({"alg": signing.algorithm().as_str(), "kid": signing.kid()}),
                ] {
                    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
                    let message = format!(
                        "{}.{}",
                        encode(header.to_string().as_bytes()),
                        encode(b"{}")
                    );
                    let tag = hmac::sign(&hmac::Key::new(hash, &secret), message.as_bytes());
                    let jwt = format!("{message}.{}", encode(tag.as_ref()));
                    let keys = KeySet::parse(set.as_bytes()).unwrap();
                    let error = verify(&jwt, &keys, &ANY).unwrap_err();
                    if header["alg"] == alg {
                        assert_eq!(error, VerifyError::Algorithm(alg.into()));
                    } else {
                        assert_eq!(error, VerifyError::Signature);
                    }
                }
            }
        }
    }
}

#[test]
fn a_shared_secret_in_the_set_verifies_nothing() {
    let secret = [7; 32];
    let keys = json!({"keys": [
        {"kty": "oct", "kid": "s", "k": URL_SAFE_NO_PAD.encode(secret), "alg": "HS256"},
        es256().public_jwk(),
    ]});
    let keys = KeySet::parse(keys.to_string().as_bytes()).unwrap();
    let message = format!(
        "{}.e30",
        URL_SAFE_NO_PAD.encode(br#"{"alg":"HS256","kid":"s"}"#)
    );
    let tag = hmac::sign(
        &hmac::Key::new(hmac::HMAC_SHA256, &secret),
        message.as_bytes(),
    );
    let jwt = format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag));
    assert_eq!(
        verify(&jwt, &keys, &ANY),
        Err(VerifyError::Algorithm("HS256".into()))
    );
}

#[test]
fn only_algorithms_that_are_allowed_verify() {
    let jwt = of(json!({}));
    let only = |algorithms| Expected { algorithms, ..ANY };
    assert!(verify(&jwt, &set(), &only(&[Algorithm::RS256, Algorithm::ES256])).is_ok());
    for algorithms in [
        &[][..],
        &[Algorithm::ES384],
        &[Algorithm::RS256, Algorithm::EdDSA],
    ] {
        assert_eq!(
            refused(&jwt, &only(algorithms)),
            VerifyError::Algorithm("ES256".into())
        );
    }
}

#[test]
fn a_key_verifies_nothing_but_what_it_is_for() {
    let rsa = key(Algorithm::RS256);
    let pss = key(Algorithm::PS256);
    // One and the same RSA key: what it is published for counts.
    let jwt = pss.sign(None, &members(json!({}))).unwrap();
    assert_eq!(
        verify(&jwt, &key_set(&[rsa]), &ANY),
        Err(VerifyError::KeyNotForAlgorithm(Algorithm::PS256))
    );
    assert!(verify(&jwt, &key_set(&[pss]), &ANY).is_ok());
    // The kid of one kind of key with the algorithm of another.
    for alg in ["RS256", "PS256", "ES384", "EdDSA", "Ed25519"] {
        let jwt = with_header(&json!({"alg": alg, "kid": es256().kid()}));
        assert_eq!(
            refused(&jwt, &ANY),
            VerifyError::KeyNotForAlgorithm(Algorithm::from_name(alg).unwrap())
        );
        let jwt = with_header(&json!({"alg": alg}));
        assert_eq!(refused(&jwt, &ANY), VerifyError::UnknownKey(None));
    }
}

#[test]
fn an_eddsa_signature_is_verified_under_both_names() {
    let key = key(Algorithm::EdDSA);
    for alg in ["EdDSA", "Ed25519"] {
        let header = json!({"alg": alg, "kid": key.kid()}).to_string();
        let jwt = key.sign_parts(header.as_bytes(), b"{}");
        assert!(verify(&jwt, &key_set(std::slice::from_ref(&key)), &ANY).is_ok());
    }
}

#[test]
fn extensions_that_are_called_critical_are_refused_known_or_not() {
    for crit in [
        json!(["exp"]),
        json!(["b64"]),
        json!(["http://example.com/unknown"]),
        json!([]),
        json!(null),
        json!("x"),
        json!({}),
    ] {
        assert_eq!(
            refused(&with_member("crit", crit), &ANY),
            VerifyError::Critical
        );
    }
    for b64 in [json!(false), json!(null), json!("true"), json!(0)] {
        assert_eq!(
            refused(&with_member("b64", b64), &ANY),
            VerifyError::Unencoded
        );
    }
    assert!(verify(&with_member("b64", json!(true)), &set(), &ANY).is_ok());
}

#[test]
fn a_key_or_an_address_in_the_header_is_never_believed() {
    let attacker = SigningKey::generate().unwrap();
    let jwk = attacker.public_jwk();
    for kid in [
        Some(es256().kid().to_owned()),
        Some(attacker.kid().to_owned()),
        None,
    ] {
        for (name, value) in [
            ("jwk", jwk.clone()),
            ("jku", json!("http://127.0.0.1:1/jwks")),
            ("x5u", json!("http://127.0.0.1:1/x")),
            ("x5c", json!(["MIIB"])),
            ("x5t", json!("AA")),
        ] {
            let mut header = json!({"alg": "ES256"});
            header[name] = value;
            if let Some(kid) = &kid {
                header["kid"] = json!(kid);
            }
            let jwt = attacker.sign_parts(header.to_string().as_bytes(), b"{}");
            let error = refused(&jwt, &ANY);
            assert!(
                matches!(error, VerifyError::Signature | VerifyError::UnknownKey(_)),
                "{error}"
            );
            // Beside the right signature, the member has no effect.
            header["kid"] = json!(es256().kid());
            assert!(verify(&with_header(&header), &set(), &ANY).is_ok());
        }
    }
}

#[test]
fn a_kid_that_no_key_has_is_an_unknown_key_however_odd_it_is() {
    for kid in [
        String::new(),
        " ".to_owned(),
        "../../dev/null".to_owned(),
        "' OR 1=1 --".to_owned(),
        "a\u{0}b\r\nX: y\u{1b}[31m\u{202e}\u{e9}\"".to_owned(),
        es256().kid().to_uppercase(),
        format!("{}\u{0}", es256().kid()),
        "k".repeat(40_000),
    ] {
        let error = refused(&with_member("kid", json!(kid)), &ANY);
        assert!(error.is_unknown_key());
        let text = error.to_string();
        assert!(text.len() < 1000, "{text}");
        assert!(
            text.chars()
                .all(|char| char == '…' || (char.is_ascii() && !char.is_ascii_control())),
            "{text:?}"
        );
    }
    for kid in [json!(1), json!(null), json!([]), json!({"a": 1})] {
        assert_eq!(
            refused(&with_member("kid", kid), &ANY),
            VerifyError::NotJwt(JwtError::BadHeader)
        );
    }
}

#[test]
fn a_jwt_without_kid_is_tried_with_a_few_keys_that_fit() {
    let unnamed = |key: &SigningKey| key.sign_parts(br#"{"alg":"ES256"}"#, b"{}");
    let many: Vec<_> = (0..12).map(|_| SigningKey::generate().unwrap()).collect();
    let mut keys: Vec<_> = many.iter().take(MAX_TRIED - 1).cloned().collect();
    keys.insert(0, key(Algorithm::RS256));
    keys.insert(3, key(Algorithm::EdDSA));
    keys.push(es256());
    assert!(verify(&unnamed(&es256()), &key_set(&keys), &ANY).is_ok());
    let stranger = SigningKey::generate().unwrap();
    assert_eq!(
        verify(&unnamed(&stranger), &key_set(&keys), &ANY),
        Err(VerifyError::UnknownKey(None))
    );
    // The ninth that fits is not tried.
    assert!(verify(&unnamed(&many[7]), &key_set(&many), &ANY).is_ok());
    assert!(
        verify(&unnamed(&many[8]), &key_set(&many), &ANY)
            .unwrap_err()
            .is_unknown_key()
    );
}

#[test]
fn of_keys_with_the_same_kid_the_right_one_is_found() {
    let other = SigningKey::generate().unwrap();
    let keys: Vec<_> = [other, key(Algorithm::RS256), es256()]
        .into_iter()
        .map(|key| key.with_kid("same"))
        .collect();
    for key in &keys {
        let jwt = key.sign(None, &members(json!({}))).unwrap();
        assert!(verify(&jwt, &key_set(&keys), &ANY).is_ok());
    }
    let stranger = SigningKey::generate().unwrap().with_kid("same");
    let jwt = stranger.sign(None, &members(json!({}))).unwrap();
    assert_eq!(
        verify(&jwt, &key_set(&keys), &ANY),
        Err(VerifyError::Signature)
    );
}

#[test]
fn a_key_published_for_encryption_verifies_nothing() {
    let mut jwk = es256().public_jwk();
    jwk["use"] = json!("enc");
    let keys = json!({"keys": [jwk, key(Algorithm::EdDSA).public_jwk()]});
    let keys = KeySet::parse(keys.to_string().as_bytes()).unwrap();
    assert!(
        verify(&of(json!({})), &keys, &ANY)
            .unwrap_err()
            .is_unknown_key()
    );
}

#[test]
fn the_signature_is_taken_whole_or_not_at_all() {
    for &algorithm in Algorithm::ALL {
        let key = key(algorithm);
        let jwt = key.sign(None, &members(json!({"sub": "alice"}))).unwrap();
        let (message, signature) = jwt.rsplit_once('.').unwrap();
        let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let length = signature.len();
        let mut reversed = signature.clone();
        reversed.reverse();
        let mut halves = signature.clone();
        halves.rotate_left(length / 2);
        for changed in [
            signature[..length - 1].to_vec(),
            signature[1..].to_vec(),
            signature[..1].to_vec(),
            [&signature[..], &[0]].concat(),
            [&[0], &signature[..]].concat(),
            [&signature[..], &signature[..]].concat(),
            vec![0; length],
            vec![0xff; length],
            // r = s = 1, and r = 0.
            [
                vec![0; length / 2 - 1],
                vec![1],
                vec![0; length / 2 - 1],
                vec![1],
            ]
            .concat(),
            [vec![0; length / 2], signature[length / 2..].to_vec()].concat(),
            [signature[..length / 2].to_vec(), vec![0; length / 2]].concat(),
            // What an ECDSA signature looks like in DER.
            vec![0x30, 6, 2, 1, 0, 2, 1, 0],
            reversed,
            halves,
        ] {
            let jwt = format!("{message}.{}", URL_SAFE_NO_PAD.encode(&changed));
            assert_eq!(
                verify(&jwt, &key_set(std::slice::from_ref(&key)), &ANY),
                Err(VerifyError::Signature),
                "{algorithm} {}",
                changed.len()
            );
        }
    }
}

#[test]
fn names_that_stand_twice_are_refused_at_every_depth() {
    let kid = es256().kid().to_owned();
    for header in [
        format!(r#"{{"alg":"ES256","kid":"{kid}","alg":"ES256"}}"#),
        format!(r#"{{"alg":"ES256","kid":"x","kid":"{kid}"}}"#),
        format!(r#"{{"alg":"none","\u0061lg":"ES256","kid":"{kid}"}}"#),
        format!(r#"{{"alg":"ES256","kid":"{kid}","x":[{{"a":1,"a":1}}]}}"#),
    ] {
        let jwt = es256().sign_parts(header.as_bytes(), b"{}");
        assert_eq!(
            refused(&jwt, &ANY),
            VerifyError::DuplicateInHeader,
            "{header}"
        );
    }
    let header = format!(r#"{{"alg":"ES256","kid":"{kid}"}}"#);
    for payload in [
        r#"{"exp":1,"exp":9999999999}"#,
        r#"{"exp":9999999999,"exp":9999999999}"#,
        r#"{"token_introspection":{"active":false,"active":true}}"#,
        "[]",
        "null",
        "",
        "{",
        "{} ,",
    ] {
        let jwt = es256().sign_parts(header.as_bytes(), payload.as_bytes());
        let error = refused(&jwt, &ANY);
        let expected = match payload {
            "" => VerifyError::NotJwt(JwtError::EmptyPart),
            _ => VerifyError::Payload,
        };
        assert_eq!(error, expected, "{payload}");
    }
}

#[test]
fn json_of_ten_thousand_levels_is_refused() {
    let header = format!(r#"{{"alg":"ES256","kid":"{}"}}"#, es256().kid());
    let levels = 10_000;
    for deep in [
        format!(r#"{{"a":{}{}}}"#, "[".repeat(levels), "]".repeat(levels)),
        format!("{}1{}", r#"{"":"#.repeat(levels), "}".repeat(levels)),
        format!(r#"{{"a":{}"#, "[".repeat(levels)),
    ] {
        let jwt = es256().sign_parts(header.as_bytes(), deep.as_bytes());
        // The longest of them is refused for that alone.
        if jwt.len() > super::super::MAX_JWT_LENGTH {
            assert_eq!(refused(&jwt, &ANY), VerifyError::NotJwt(JwtError::TooLong));
        } else {
            assert_eq!(refused(&jwt, &ANY), VerifyError::Payload);
        }
        let jwt = es256().sign_parts(deep.as_bytes(), b"{}");
        assert!(matches!(refused(&jwt, &ANY), VerifyError::NotJwt(_)));
    }
    // One in a payload that is only as deep as it is short.
    let deep = r#"{"":"#.repeat(8_000) + "1" + &"}".repeat(8_000);
    let jwt = es256().sign_parts(header.as_bytes(), deep.as_bytes());
    assert!(jwt.len() <= super::super::MAX_JWT_LENGTH);
    assert_eq!(refused(&jwt, &ANY), VerifyError::Payload);
}

#[test]
fn what_has_not_the_form_of_a_jwt_is_refused_before_anything_else() {
    let jwt = of(json!({}));
    let url = "https://as.example.com/jwks";
    for (text, error) in [
        (String::new(), JwtError::Empty),
        ("a".repeat(65 * 1024), JwtError::TooLong),
        (url.to_owned(), JwtError::BadByte),
        (format!("{jwt}="), JwtError::BadByte),
        (format!("{jwt}\n"), JwtError::BadByte),
        (format!(" {jwt}"), JwtError::BadByte),
        (format!("{jwt}.{jwt}"), JwtError::NotThreeParts),
        // Five parts: encrypted (RFC 7516).
        (format!("{jwt}.e30.e30"), JwtError::NotThreeParts),
        (format!(".{jwt}"), JwtError::NotThreeParts),
        (format!("{jwt}A"), JwtError::BadBase64),
    ] {
        let refused = refused(&text, &ANY);
        // A byte more may be base64url of one that is none of the signature's.
        assert!(
            refused == VerifyError::NotJwt(error) || error == JwtError::BadBase64,
            "{refused}"
        );
    }
}

#[test]
fn the_type_is_compared_as_rfc_7515_has_it() {
    fn types<'a>(types: &'a [&'a str]) -> Expected<'a> {
        Expected {
            types: Some(types),
            ..ANY
        }
    }
    let typ = |typ: &str| with_member("typ", json!(typ));
    for one in [
        "at+jwt",
        "AT+JWT",
        "application/at+jwt",
        "Application/At+Jwt",
    ] {
        for wanted in ["at+jwt", "application/at+jwt"] {
            assert!(
                verify(&typ(one), &set(), &types(&["JWT", wanted])).is_ok(),
                "{one}"
            );
        }
    }
    for other in [
        "",
        "JWT",
        "token-introspection+jwt",
        "at+jwt ",
        "application/",
        "application/application/at+jwt",
        "text/at+jwt",
        "application/at+jwt/x",
        "at+jwt;x=y",
        "\u{131}at+jwt",
    ] {
        let error = refused(&typ(other), &types(&["at+jwt"]));
        assert_eq!(error, VerifyError::Type(Some(shown(other))));
    }
    let none = with_header(&json!({"alg": "ES256", "kid": es256().kid()}));
    assert_eq!(refused(&none, &types(&["at+jwt"])), VerifyError::Type(None));
    assert!(verify(&none, &set(), &types(&["at+jwt", ""])).is_ok());
    assert!(verify(&none, &set(), &ANY).is_ok());
    assert!(refused(&none, &types(&[])) == VerifyError::Type(None));
    for typ in [json!(null), json!(1), json!(["at+jwt"])] {
        assert_eq!(
            refused(&with_member("typ", typ), &types(&["at+jwt", ""])),
            VerifyError::NotJwt(JwtError::BadHeader)
        );
    }
}

#[test]
fn a_jwt_that_has_expired_is_refused_to_the_second() {
    for (exp, second) in [
        (json!(NOW), NOW),
        (json!(NOW - 1), NOW - 1),
        (json!(NOW as f64 + 0.9), NOW),
        (json!(NOW.to_string()), NOW),
        (json!(0), 0),
        (json!(-1), -1),
    ] {
        // No leeway makes it valid again.
        for leeway in [0, 60] {
            let expected = Expected { leeway, ..ANY };
            let jwt = of(json!({"exp": exp}));
            assert_eq!(refused(&jwt, &expected), VerifyError::Expired(second));
        }
    }
    for exp in [
        json!(NOW + 1),
        json!(NOW as f64 + 1.1),
        json!(u64::MAX),
        json!(null),
    ] {
        assert!(
            verify(&of(json!({"exp": exp})), &set(), &ANY).is_ok(),
            "{exp}"
        );
    }
    for exp in [
        json!("soon"),
        json!(true),
        json!([NOW + 1]),
        json!({}),
        json!(""),
    ] {
        assert!(matches!(
            refused(&of(json!({"exp": exp})), &ANY),
            VerifyError::Claim(_)
        ));
    }
}

#[test]
fn a_jwt_that_is_not_valid_yet_is_refused_but_for_the_leeway() {
    let at = |leeway| Expected { leeway, ..ANY };
    let jwt = |nbf: Value| of(json!({"nbf": nbf}));
    assert!(verify(&jwt(json!(NOW)), &set(), &at(0)).is_ok());
    assert!(verify(&jwt(json!(NOW + 60)), &set(), &at(60)).is_ok());
    assert_eq!(
        refused(&jwt(json!(NOW + 1)), &at(0)),
        VerifyError::NotYetValid(NOW + 1)
    );
    assert_eq!(
        refused(&jwt(json!(NOW + 61)), &at(60)),
        VerifyError::NotYetValid(NOW + 61)
    );
    assert!(matches!(
        refused(&jwt(json!(u64::MAX)), &at(60)),
        VerifyError::NotYetValid(_)
    ));
    assert!(matches!(
        refused(&jwt(json!("later")), &at(60)),
        VerifyError::Claim(_)
    ));
}

#[test]
fn the_issuer_is_compared_byte_by_byte() {
    let from = |issuer| Expected {
        issuer: Some(issuer),
        ..ANY
    };
    let issuer = "https://as.example.com";
    assert!(verify(&of(json!({"iss": issuer})), &set(), &from(issuer)).is_ok());
    for other in [
        "https://as.example.com/",
        "https://AS.example.com",
        "https://as.example.com:443",
        "https://as.example.com.evil.example",
        "http://as.example.com",
        "",
    ] {
        assert_eq!(
            refused(&of(json!({"iss": other})), &from(issuer)),
            VerifyError::Issuer(Some(other.into()))
        );
    }
    assert_eq!(
        refused(&of(json!({})), &from(issuer)),
        VerifyError::Issuer(None)
    );
    assert_eq!(
        refused(&of(json!({"iss": null})), &from("")),
        VerifyError::Issuer(None)
    );
    for iss in [json!(1), json!([issuer])] {
        assert!(matches!(
            refused(&of(json!({"iss": iss})), &from(issuer)),
            VerifyError::Claim(_)
        ));
    }
}

#[test]
fn the_audience_names_one_of_those_expected() {
    let to = |audiences| Expected {
        audiences: Some(audiences),
        ..ANY
    };
    for aud in [json!("gateway"), json!(["x", "gateway"])] {
        assert!(verify(&of(json!({"aud": aud})), &set(), &to(&["gateway", "other"])).is_ok());
    }
    for (aud, first) in [
        (json!("Gateway"), "Gateway"),
        (json!("gateway other"), "gateway other"),
        (json!(["x", "y"]), "x"),
        (json!(""), ""),
    ] {
        assert_eq!(
            refused(&of(json!({"aud": aud})), &to(&["gateway"])),
            VerifyError::Audience(Some(first.into()))
        );
    }
    for aud in [json!([]), json!(null)] {
        assert_eq!(
            refused(&of(json!({"aud": aud})), &to(&["gateway"])),
            VerifyError::Audience(None)
        );
    }
    assert_eq!(
        refused(&of(json!({"aud": "x"})), &to(&[])),
        VerifyError::Audience(Some("x".into()))
    );
    for aud in [json!(1), json!({"gateway": 1}), json!(["gateway", 1])] {
        for expected in [to(&["gateway"]), ANY] {
            assert!(matches!(
                refused(&of(json!({"aud": aud})), &expected),
                VerifyError::Claim(_)
            ));
        }
    }
}

#[test]
fn nothing_is_said_of_claims_before_the_signature_is_verified() {
    let stranger = SigningKey::generate().unwrap().with_kid(es256().kid());
    for claims in [
        json!({"exp": 1}),
        json!({"exp": "x"}),
        json!({"iss": "evil"}),
    ] {
        let jwt = stranger.sign(None, &members(claims)).unwrap();
        assert_eq!(refused(&jwt, &ANY), VerifyError::Signature);
    }
    let jwt = stranger.sign_parts(
        format!(r#"{{"alg":"ES256","kid":"{}"}}"#, es256().kid()).as_bytes(),
        b"not JSON",
    );
    assert_eq!(refused(&jwt, &ANY), VerifyError::Signature);
}

#[test]
fn what_errors_show_is_short_and_plain() {
    let nasty = "\u{1b}]0;x\u{7}\r\nFAKE LOG LINE\u{202e}\"".repeat(100);
    let expected = Expected {
        types: Some(&["x"]),
        issuer: Some("x"),
        audiences: Some(&["x"]),
        ..ANY
    };
    for jwt in [
        with_header(&json!({"alg": nasty})),
        with_member("typ", json!(nasty)),
        with_member("kid", json!(nasty)),
        with_header(&json!({"alg": "ES256", "kid": es256().kid(), "typ": "x"})),
        es256()
            .sign(Some("x"), &members(json!({"iss": nasty})))
            .unwrap(),
        es256()
            .sign(Some("x"), &members(json!({"iss": "x", "aud": nasty})))
            .unwrap(),
    ] {
        let error = verify(&jwt, &set(), &expected).unwrap_err();
        for text in [error.to_string(), format!("{error:?}")] {
            assert!(text.len() < 1200, "{}", text.len());
            assert!(
                !text.contains(['\r', '\n', '\u{1b}', '\u{7}', '\u{202e}']),
                "{text:?}"
            );
        }
    }
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}") {
        prop_assert!(verify(&text, &set(), &ANY).is_err());
    }

    #[test]
    fn no_parts_make_it_panic(
        header in proptest::collection::vec(any::<u8>(), 0..60),
        payload in proptest::collection::vec(any::<u8>(), 0..60),
        signature in proptest::collection::vec(any::<u8>(), 0..100),
    ) {
        let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let rest = format!("{}.{}", encode(&payload), encode(&signature));
        for header in [header, br#"{"alg":"ES256"}"#.to_vec()] {
            let jwt = format!("{}.{rest}", encode(&header));
            prop_assert!(verify(&jwt, &set(), &ANY).is_err());
        }
    }

    #[test]
    fn what_is_signed_may_be_anything(header in "\\PC{0,40}", payload in "\\PC{0,60}") {
        let jwt = es256().sign_parts(header.as_bytes(), payload.as_bytes());
        let _ = verify(&jwt, &set(), &ANY);
        let jwt = es256().sign_parts(br#"{"alg":"ES256"}"#, payload.as_bytes());
        if let Ok(claims) = verify(&jwt, &set(), &ANY) {
            prop_assert_eq!(object(payload.as_bytes()), Ok(claims));
        }
    }

    #[test]
    fn no_bit_can_be_flipped(at in any::<prop::sample::Index>(), bit in 0..8u32, which in 0..9usize) {
        let key = key(Algorithm::ALL[which]);
        let jwt = key.sign(Some("at+jwt"), &members(json!({"sub": "alice", "exp": NOW + 60}))).unwrap();
        let keys = key_set(&[key]);
        prop_assert!(verify(&jwt, &keys, &ANY).is_ok());
        let mut bytes = jwt.into_bytes();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if let Ok(text) = std::str::from_utf8(&bytes) {
            prop_assert!(verify(text, &keys, &ANY).is_err(), "bit {} of byte {}", bit, at);
        }
    }
}
