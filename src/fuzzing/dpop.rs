//! Fuzz targets `dpop` and `certificate`: DPoP proofs (RFC 9449), and certificates as another server forwards them.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use aws_lc_rs::digest;
use serde_json::Value;
use url::Url;

use super::message::{JKT, decoded, with_jwts};
use super::{NOW, assert_fit_for_a_log, is_unambiguous};
use crate::cache::FirstUse;
use crate::gateway::sender::{
    AHEAD, MAX_JTI_LENGTH, MAX_PROOF_LENGTH, Nonces, Proof, ProofRules, RequestContext,
    SenderError, Thumbprint, Uri, check,
};
use crate::jwt::{Claims, check_compact};
use crate::token::Scheme;
use crate::{Active, Token};

const TOKEN: &[u8] = b"a-made-up-token";
const CERTIFICATE: &[u8] = b"a certificate";
const WINDOW: u64 = 60;

static NONCES: LazyLock<Arc<Nonces>> =
    LazyLock::new(|| Arc::new(Nonces::new(&[7; 32], Duration::from_secs(300))));

/// Lines: the scheme, the method, the URI, and the token's `cnf`, in which `JKT` stands for the thumbprint of the key
/// that signs and `X5T` for that of the connection's certificate; then the proof, in which `~header~payload~` stands for
/// a JWT that is signed with that key and `NONCE` for the current nonce. `DPoP+nonce` asks for a nonce.
pub fn dpop(input: &[u8]) {
    let mut lines = input.splitn(5, |&byte| byte == b'\n');
    let [
        Some(scheme),
        Some(method),
        Some(uri),
        Some(cnf),
        Some(proof),
    ] = [(); 5].map(|()| lines.next())
    else {
        return;
    };
    let nonce = NONCES.current(NOW);
    let (proof, signed) = with_jwts(&replaced(proof, "NONCE", &nonce));
    let ours = thumbprint_text();
    let cnf = replaced(&replaced(cnf, "JKT", &JKT), "X5T", &ours);
    let Some(active) = bound_to(&cnf) else {
        return;
    };
    let presented = RequestContext {
        scheme: if scheme.starts_with(b"DPoP") {
            Scheme::Dpop
        } else {
            Scheme::Bearer
        },
        method,
        uri: Uri::Whole(uri),
        proof: match &*proof {
            b"" => Proof::None,
            b"several" => Proof::Several,
            proof => Proof::One(proof),
        },
        certificate: &|| Some(Thumbprint::of_der(CERTIFICATE)),
    };
    let rules = ProofRules {
        window: Duration::from_secs(WINDOW),
        nonces: scheme.ends_with(b"nonce").then(|| Arc::clone(&NONCES)),
    };
    let token = Token::parse(TOKEN).expect("it is one");
    let ask = |answer: FirstUse| {
        let mut asked = Vec::new();
        let mut first_use = |id: &crate::cache::ProofId, time: crate::cache::ProofTime| {
            asked.push((id.0, time));
            answer
        };
        (
            check(&active, token, &presented, &rules, NOW, &mut first_use),
            asked,
        )
    };
    let (answer, asked) = ask(FirstUse::First);
    let cnf = &active.claims().members()["cnf"];
    match answer {
        Ok(_) => {
            let by_certificate = cnf["x5t#S256"] == *ours;
            assert!(
                cnf["x5t#S256"].is_null() || by_certificate,
                "the certificate is another"
            );
            if presented.scheme == Scheme::Bearer {
                assert!(
                    by_certificate && cnf["jkt"].is_null(),
                    "a key has not been shown"
                );
                assert!(asked.is_empty());
                return;
            }
            if cnf["jkt"] == **JKT {
                assert!(signed, "nobody else can sign");
            }
            assert!(proof.len() <= MAX_PROOF_LENGTH);
            assert_proof(&proof, &presented, uri, &rules);
            // It is recorded once, for as long as it could be used again.
            let [(_, time)] = &*asked else {
                panic!("asked {} times", asked.len());
            };
            assert_eq!((time.now, time.window), (NOW, rules.window));
            assert!(time.left() > Duration::from_secs((time.iat + WINDOW as i64).abs_diff(NOW)));
            for (answer, error) in [
                (FirstUse::Replayed, SenderError::ProofReplayed),
                (FirstUse::Full, SenderError::ReplaysFull),
                (FirstUse::Lost, SenderError::ReplaysLost),
            ] {
                let (again, asked_again) = ask(answer);
                assert_eq!(again, Err(error));
                assert!(
                    asked_again
                        .iter()
                        .map(|(id, _)| id)
                        .eq(asked.iter().map(|(id, _)| id))
                );
            }
        }
        Err(error) => {
            assert!(asked.is_empty(), "what is refused takes no room");
            let text = error.to_string();
            assert_fit_for_a_log(&text);
            assert!(
                !text.contains(['"', '\\']) && text.is_ascii(),
                "it stands in quotes"
            );
        }
    }
}

/// The properties of an accepted proof, checked with other parsers.
fn assert_proof(proof: &[u8], presented: &RequestContext<'_>, uri: &[u8], rules: &ProofRules) {
    let text = std::str::from_utf8(proof).expect("it is a JWT");
    let mut parts = text.split('.').map(decoded);
    let [header, claims] = [(); 2].map(|()| -> Value {
        let part = parts.next().expect("it has three parts");
        assert!(is_unambiguous(&part));
        serde_json::from_slice(&part).expect("it is JSON")
    });
    assert!(!header["jwk"].is_null() && header["jwk"]["d"].is_null() && header["crit"].is_null());
    assert_eq!(
        claims["htm"].as_str().map(str::as_bytes),
        Some(presented.method)
    );
    let hash = digest::digest(&digest::SHA256, TOKEN);
    assert_eq!(
        decoded(claims["ath"].as_str().unwrap_or_default()),
        hash.as_ref()
    );
    let jti = claims["jti"].as_str().unwrap_or_default();
    assert!((1..=MAX_JTI_LENGTH).contains(&jti.len()));
    if let Some(iat) = claims["iat"].as_i64() {
        assert!(iat <= NOW + AHEAD.as_secs() as i64 && iat >= NOW - WINDOW as i64);
    }
    if let Some(exp) = claims["exp"].as_i64() {
        assert!(exp > NOW);
    }
    if rules.nonces.is_some() {
        assert_eq!(claims["nonce"], NONCES.current(NOW));
    }
    // With another parser of URIs, if that one accepts the URI.
    let htu = Url::parse(claims["htu"].as_str().unwrap_or_default());
    let asked = Url::parse(&String::from_utf8_lossy(uri));
    if let (Ok(htu), Ok(asked)) = (htu, asked) {
        assert_eq!(htu.origin(), asked.origin());
        let segments = |url: &Url| {
            let segments = url.path_segments().map(Iterator::count);
            segments.unwrap_or_default()
        };
        assert_eq!(segments(&htu), segments(&asked));
    }
}

/// A certificate in PEM, escaped or not.
pub fn certificate(input: &[u8]) {
    if let Ok(text) = std::str::from_utf8(input)
        && let Some(thumbprint) = Thumbprint::parse(text)
    {
        assert_eq!(decoded(text).len(), 32);
        assert_ne!(
            thumbprint,
            Thumbprint::of_der(input),
            "nobody finds that by trying"
        );
    }
    let Some(thumbprint) = Thumbprint::of_pem(input) else {
        return;
    };
    // Escaped as in a URL it is the same one.
    let escaped: String = match input.contains(&b'%') {
        true => return,
        false => input.iter().map(|byte| format!("%{byte:02x}")).collect(),
    };
    if !input.contains(&b'\t') {
        assert_eq!(Thumbprint::of_pem(escaped.as_bytes()), Some(thumbprint));
    }
}

/// The verdict on a token with this `cnf`.
fn bound_to(cnf: &[u8]) -> Option<Active> {
    let payload = format!(r#"{{"cnf":{}}}"#, std::str::from_utf8(cnf).ok()?);
    let claims = Claims::from_json(&payload).ok()?;
    claims.get("cnf")?;
    let (jwt, _) = with_jwts(br#"~{"alg":"EdDSA"}~{}~"#);
    Some(Active::new(
        &check_compact(&jwt).expect("it is one"),
        claims,
    ))
}

/// The thumbprint of the certificate, as it stands in a token.
fn thumbprint_text() -> String {
    use base64::Engine;
    let hash = digest::digest(&digest::SHA256, CERTIFICATE);
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(hash)
}

/// `text` with `by` for the first `word`.
fn replaced(text: &[u8], word: &str, by: &str) -> Vec<u8> {
    match text
        .windows(word.len())
        .position(|window| window == word.as_bytes())
    {
        Some(at) => [&text[..at], by.as_bytes(), &text[at + word.len()..]].concat(),
        None => text.to_vec(),
    }
}
