//! Cost of a bound token per request: `cargo bench --bench dpop`.
//!
//! All work for a cached token, by the algorithm that the client signs with: the proof is parsed and checked, its
//! signature verified, and its use recorded in a zone. For comparison: a certificate-bound token, and a proof that is
//! refused before its signature is verified.

use std::alloc::{Layout, alloc_zeroed};
use std::hint::black_box;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use phantom_token::cache::{FirstUse, Store, Zone};
use phantom_token::gateway::sender::{
    Proof, ProofRules, RequestContext, SenderError, Thumbprint, Uri, check,
};
use phantom_token::jwt::{Claims, check_compact};
use phantom_token::token::{Fingerprint, Scheme};
use phantom_token::{Active, Token};
use pkcs8::PrivateKeyInfoRef;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const NOW: i64 = 1_700_000_000;
const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const URI: &str = "https://api.example.com/orders/4711";

/// A cached token with these claims.
fn remembered(claims: &Value) -> Active {
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let jwt = format!(
        "{}.{}.AAAA",
        encode(r#"{"alg":"ES256"}"#),
        encode(&claims.to_string())
    );
    let claims = Claims::from_json(&claims.to_string()).expect("claims");
    Active::new(&check_compact(jwt.as_bytes()).expect("a JWT"), claims)
}

/// A client's key, in a third-party library.
struct Key {
    algorithm: jsonwebtoken::Algorithm,
    key: jsonwebtoken::EncodingKey,
    jwk: Value,
    thumbprint: String,
}

impl Key {
    fn new(algorithm: jsonwebtoken::Algorithm) -> Self {
        use jsonwebtoken::Algorithm;
        let key = match algorithm {
            Algorithm::ES256 => {
                let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
                jsonwebtoken::EncodingKey::from_ec_der(pair.to_pkcs8v1().expect("PKCS#8").as_ref())
            }
            Algorithm::EdDSA => {
                let pair = Ed25519KeyPair::generate().expect("a key");
                jsonwebtoken::EncodingKey::from_ed_der(pair.to_pkcs8v1().expect("PKCS#8").as_ref())
            }
            _ => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key");
                let der: Pkcs8V1Der<'_> = pair.as_der().expect("PKCS#8");
                // This library signs with PKCS#1.
                let info = PrivateKeyInfoRef::try_from(der.as_ref()).expect("PKCS#8");
                jsonwebtoken::EncodingKey::from_rsa_der(info.private_key.as_bytes())
            }
        };
        let mut jwk = jsonwebtoken::jwk::Jwk::from_encoding_key(&key, algorithm).expect("a JWK");
        jwk.common = jsonwebtoken::jwk::CommonParameters::default();
        let thumbprint = jwk
            .thumbprint(jsonwebtoken::jwk::ThumbprintHash::SHA256)
            .expect("a thumbprint");
        Key {
            algorithm,
            key,
            jwk: serde_json::to_value(jwk).expect("JSON"),
            thumbprint,
        }
    }

    fn proof(&self, jti: u64, htm: &str) -> String {
        let mut header = jsonwebtoken::Header::new(self.algorithm);
        header.typ = Some("dpop+jwt".to_owned());
        header.jwk = Some(serde_json::from_value(self.jwk.clone()).expect("a JWK"));
        let ath = URL_SAFE_NO_PAD.encode(Sha256::digest(TOKEN));
        let claims =
            json!({"jti": jti.to_string(), "htm": htm, "htu": URI, "iat": NOW, "ath": ath});
        jsonwebtoken::encode(&header, &claims, &self.key).expect("a signature")
    }
}

fn presented<'a>(
    proof: &'a str,
    certificate: &'a dyn Fn() -> Option<Thumbprint>,
) -> RequestContext<'a> {
    RequestContext {
        scheme: Scheme::Dpop,
        method: b"GET",
        uri: Uri::Whole(URI.as_bytes()),
        proof: Proof::One(proof.as_bytes()),
        certificate,
    }
}

fn proofs(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("dpop");
    let layout = Layout::from_size_align(256 << 20, 4096).expect("a layout");
    // SAFETY: the layout is of no size zero.
    let memory = unsafe { alloc_zeroed(layout) };
    // SAFETY: the memory is aligned to a page, zero, this one's alone, and never freed.
    let (zone, _) = unsafe { Zone::attach(memory, layout.size()) }.expect("a zone");
    let store = zone.store(&Fingerprint::of(b"bench"));
    let token = Token::parse(TOKEN.as_bytes()).expect("a token");
    let rules = ProofRules::default();
    let mut jti = 0;
    for algorithm in [
        jsonwebtoken::Algorithm::ES256,
        jsonwebtoken::Algorithm::EdDSA,
        jsonwebtoken::Algorithm::RS256,
    ] {
        let key = Key::new(algorithm);
        let active = remembered(&json!({"cnf": {"jkt": key.thumbprint}}));
        let mut next = |htm| {
            jti += 1;
            key.proof(jti, htm)
        };
        let ask = |proof: &str| {
            let mut first_use = |id: &_, time| store.first_use(id, time);
            let presented = presented(proof, &|| None);
            check(&active, token, &presented, &rules, NOW, &mut first_use)
        };
        group.bench_function(format!("{algorithm:?}"), |bencher| {
            bencher.iter_batched(
                || next("GET"),
                |proof| ask(&proof).expect("a proof that is right"),
                BatchSize::SmallInput,
            );
        });
        let other = next("PUT");
        group.bench_function(format!("{algorithm:?}, refused unverified"), |bencher| {
            bencher.iter(|| assert_eq!(ask(black_box(&other)), Err(SenderError::ProofHtm)));
        });
    }
    let noted = |number: u64| {
        let mut id = [0; 32];
        id.copy_from_slice(&Sha256::digest(number.to_le_bytes()));
        phantom_token::cache::ProofId(id)
    };
    let time = phantom_token::cache::ProofTime {
        iat: NOW,
        now: NOW,
        window: std::time::Duration::from_secs(1),
    };
    let mut number = 0;
    group.bench_function("noting in the zone", |bencher| {
        bencher.iter_batched(
            || {
                number += 1;
                noted(number)
            },
            |id| {
                let said = store.first_use(&id, time);
                assert!(matches!(said, FirstUse::First | FirstUse::Full));
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn certificates(criterion: &mut Criterion) {
    let made = rcgen::generate_simple_self_signed(["client".to_owned()]).expect("a certificate");
    let (pem, der) = (made.cert.pem(), made.cert.der().to_vec());
    let x5t = URL_SAFE_NO_PAD.encode(Sha256::digest(&der));
    let active = remembered(&json!({"cnf": {"x5t#S256": x5t}}));
    let token = Token::parse(TOKEN.as_bytes()).expect("a token");
    let certificate = || Thumbprint::of_pem(black_box(pem.as_bytes()));
    let presented = RequestContext {
        scheme: Scheme::Bearer,
        proof: Proof::None,
        ..presented("", &certificate)
    };
    criterion.bench_function("certificate", |bencher| {
        bencher.iter(|| {
            let mut first_use = |_: &_, _| FirstUse::Unsupported;
            check(
                &active,
                token,
                &presented,
                &ProofRules::default(),
                NOW,
                &mut first_use,
            )
            .expect("the right certificate")
        });
    });
}

criterion_group!(benches, proofs, certificates);
criterion_main!(benches);
