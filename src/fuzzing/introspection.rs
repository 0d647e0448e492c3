//! Fuzz target `introspection`: answers of the introspection endpoint, in every dialect, and of token exchange.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use serde_json::Value;

use super::message::{KEY, KEYS, Message, decoded};
use super::{NOW, assert_fit_for_a_log, is_unambiguous};
use crate::cache::{Lifetime, lifetime, sealed};
use crate::config::{Dialect, Minting, TokenKind};
use crate::introspection::{AnswerContext, read};
use crate::jwt::{Algorithm, Claims, Expected, MAX_JWT_LENGTH, check_compact, jwks, verify};
use crate::{Active, Config, Error, Provider, Token, Verdict};

const GATEWAY: &str = "https://gateway.example.com";
const SERVER: &str = "https://as.example.com";
const MINT_TTL: i64 = 300;
const LEEWAY: i64 = 60;

/// The last second of the year 9999: no time is later.
const FAR: i64 = 253_402_300_799;

/// A provider for each letter that an input may begin with.
struct Way {
    letter: u8,
    provider: Arc<Provider>,
}

static WAYS: LazyLock<Vec<Way>> = LazyLock::new(|| {
    let server = [
        ("issuer", SERVER),
        ("jwks_uri", "https://as.example.com/jwks"),
        ("client_id", "gateway"),
        ("client_auth", "none"),
    ];
    let signed = [("dialect", "signed"), ("forward", "signed")];
    let exchange = [
        ("dialect", "exchange"),
        ("token_endpoint", "https://as.example.com/token"),
        ("exchange_introspect", "off"),
    ];
    let verify = [("verify", "on"), ("verify_audience", "api")];
    let any = [("token_type", "any")];
    let way = |letter, settings: &[&[(&str, &str)]], mints: Option<Dialect>| Way {
        letter,
        provider: provider(&settings.concat(), mints),
    };
    vec![
        way(b'j', &[&[("dialect", "jwt")]], None),
        way(b'n', &[&[("dialect", "json")]], None),
        way(b'a', &[&[("dialect", "auto")]], None),
        way(b'v', &[&server, &verify], None),
        way(b's', &[&server, &signed], None),
        way(b'S', &[&server], Some(Dialect::Signed)),
        way(b'x', &[&exchange], None),
        way(b'm', &[&any], Some(Dialect::Mint)),
        way(b'M', &[], Some(Dialect::Mint)),
    ]
});

fn provider(settings: &[(&str, &str)], mints: Option<Dialect>) -> Arc<Provider> {
    let mut config = Config::new("main");
    let mut set = |key: &str, value: &str| config.set(key, value).expect("it can be set");
    if settings.iter().all(|(key, _)| *key != "token_endpoint") {
        set(
            "introspection_endpoint",
            "https://as.example.com/introspect",
        );
    }
    for (key, value) in settings.iter().filter(|(key, _)| *key != "token_type") {
        set(key, value);
    }
    let provider = config.build().expect("it can be built");
    let mut provider = Arc::into_inner(provider).expect("nobody else has it");
    if let Some(dialect) = mints {
        // A key would have to be in a file.
        provider.dialect = dialect;
        if settings.contains(&("token_type", "any")) {
            provider.acquisition.acceptance.kind = TokenKind::Any;
        }
        provider.acquisition.minting = Some(Minting {
            keys: vec![KEY.clone()],
            jwks: jwks(std::slice::from_ref(&*KEY)).into(),
            issuer: GATEWAY.to_owned(),
            ttl: Duration::from_secs(MINT_TTL as u64),
            allow: None,
            deny: vec!["denied".to_owned()],
        });
    }
    Arc::new(provider)
}

/// The dialect as one letter, and an answer: see `Message`.
pub fn introspection(input: &[u8]) {
    let Some((&letter, rest)) = input.split_first() else {
        return;
    };
    let ways = &*WAYS;
    let way = ways
        .iter()
        .find(|way| way.letter == letter)
        .unwrap_or(&ways[usize::from(letter) % ways.len()]);
    let Some(message) = Message::read(rest) else {
        return;
    };
    let provider = &*way.provider;
    match answer(provider, &message) {
        Ok(Verdict::Active(active)) => {
            assert_active(provider, &message, &active);
            let Ok(Verdict::Active(again)) = answer(provider, &message) else {
                panic!("the same answer is read twice in two ways");
            };
            // Every JWT that is minted has its own jti.
            if !mints(provider) {
                assert_eq!(said(&active), said(&again));
            }
        }
        Ok(Verdict::Inactive) => assert_inactive(provider, &message),
        Err(error) => assert_error(&message, &error),
    }
}

fn answer(provider: &Provider, message: &Message) -> Result<Verdict, Error> {
    let endpoint = match provider.dialect {
        Dialect::Exchange => provider.server.token.as_ref(),
        _ => provider.server.introspection.first(),
    };
    let asked = AnswerContext {
        provider,
        server: &provider.server,
        endpoint: endpoint.expect("it is configured"),
        client_auth: provider.client_auth(&provider.server),
        keys: Some(&KEYS),
    };
    read(&asked, message.status, &message.headers, &message.body, NOW)
}

fn mints(provider: &Provider) -> bool {
    provider.acquisition.minting.is_some()
}

fn assert_active(provider: &Provider, message: &Message, active: &Active) {
    assert_eq!(message.status, 200);
    assert!(
        message
            .headers
            .get_all("content-encoding")
            .iter()
            .all(|value| {
                value
                    .as_bytes()
                    .trim_ascii()
                    .eq_ignore_ascii_case(b"identity")
            })
    );

    let jwt = active.jwt_after_sender_check();
    assert_jwt(jwt);
    assert_eq!(
        active
            .authorization_after_sender_check()
            .strip_prefix("Bearer "),
        Some(jwt)
    );
    let [header, payload] = parts(jwt);
    assert!(
        !header["alg"]
            .as_str()
            .is_none_or(|alg| alg.eq_ignore_ascii_case("none"))
    );

    // The members of the answer beside the JWT.
    let said_beside = match provider.dialect {
        Dialect::Json | Dialect::Mint => json(&message.body),
        Dialect::Auto if message.body.trim_ascii_start().starts_with(b"{") => json(&message.body),
        Dialect::Exchange => {
            let answer = json(&message.body);
            assert_eq!(answer["access_token"].as_str(), Some(jwt));
            Value::Null
        }
        Dialect::Signed => {
            let body = std::str::from_utf8(&message.body).expect("a JWT is text");
            let [_, payload] = parts(body.trim_end_matches(['\r', '\n']));
            assert_eq!(payload["iss"], SERVER);
            let response = payload["token_introspection"].clone();
            assert!(response.is_object());
            response
        }
        Dialect::Jwt | Dialect::Auto => Value::Null,
    };
    if said_beside.is_object() {
        assert_eq!(said_beside["active"], true, "nothing else lets anybody in");
        let kinds = ["token_type", "token_use", "typ", "purpose"]
            .map(|name| said_beside[name].as_str().unwrap_or_default());
        for kind in kinds {
            assert!(!kind.eq_ignore_ascii_case("refresh_token"));
        }
        let by_answer = matches!(provider.dialect, Dialect::Mint | Dialect::Signed);
        if by_answer && provider.acquisition.acceptance.kind == TokenKind::AccessToken {
            assert!(
                kinds.iter().any(|kind| !kind.is_empty()),
                "nobody is let in by a token that may be a refresh token"
            );
        }
    }
    if message.body.trim_ascii_start().starts_with(b"{") {
        assert!(
            is_unambiguous(&message.body),
            "two readers may read two answers"
        );
    }
    for part in active.jwt_after_sender_check().split('.').take(2) {
        assert!(
            is_unambiguous(&decoded(part)),
            "two readers may read two JWTs"
        );
    }

    // Only the gateway and the server sign it.
    let needs_signature = provider.acquisition.verification.is_some();
    if needs_signature || provider.dialect == Dialect::Signed {
        assert!(message.signed, "nobody else can sign");
    }
    if mints(provider) {
        let expected = Expected {
            algorithms: &[Algorithm::EdDSA],
            types: Some(&["at+jwt"]),
            issuer: Some(GATEWAY),
            audiences: None,
            now: NOW,
            leeway: LEEWAY,
        };
        let minted = verify(jwt, &KEYS, &expected).expect("what is minted verifies");
        assert!(!minted.contains_key("denied") && !minted.contains_key("active"));
        assert!(minted.values().all(|value| {
            value
                .as_str()
                .is_none_or(|text| check_compact(text.as_bytes()).is_err())
        }));
        assert!(active.exp().is_some_and(|exp| exp <= NOW + MINT_TTL));
    } else if message.body.trim_ascii_start().starts_with(b"{") {
        // It is where the server has put it: of an exchange, see above.
        let mut claims = provider.jwt_claims.iter();
        let is_there = claims.any(|name| said_beside[name] == jwt);
        assert!(is_there || provider.dialect == Dialect::Exchange);
    } else {
        assert_eq!(message.body.trim_ascii_end(), jwt.as_bytes());
    }

    // No time is later than the answer or the JWT says, and a bound token stays bound.
    let claims = active.claims();
    assert_eq!(active.exp(), claims.exp);
    assert!(claims.exp.is_none_or(|exp| exp > NOW && exp <= FAR));
    assert!(claims.nbf.is_none_or(|nbf| nbf <= NOW + LEEWAY));
    let mut sources = vec![&said_beside];
    if provider.dialect != Dialect::Signed {
        sources.push(&payload);
    }
    for source in sources {
        if let Some(exp) = source["exp"].as_i64() {
            assert!(active.exp().is_some_and(|ours| ours <= exp));
        }
        if let Some(nbf) = source["nbf"].as_i64() {
            assert!(nbf <= NOW + LEEWAY);
        }
        if !source["cnf"].is_null() {
            assert!(active.is_bound(), "who is bound to a key stays so");
        }
    }
    assert_eq!(active.is_bound(), claims.get("cnf").is_some());

    let json = claims.json();
    assert!(!json.contains('\0'));
    let again = Claims::from_json(json).expect("claims are read as they were written");
    assert_eq!(claims_said(claims), claims_said(&again));

    assert_remembered(provider, message, active);
}

/// A sealed entry opens to the same verdict, and only for the token and the provider that it was stored for.
fn assert_remembered(provider: &Provider, message: &Message, active: &Active) {
    let [verdict, stored] = [active, active].map(|active| {
        Verdict::Active(Arc::new(Active::with_response(
            &check_compact(active.jwt_after_sender_check().as_bytes()).expect("it was one before"),
            active.extra_claims().into(),
            Claims::from_json(active.claims().json()).expect("they were read before"),
        )))
    });
    let fresh = lifetime(provider, &verdict, &message.headers, NOW);
    let left = active.exp().map_or(i64::MAX, |exp| exp - NOW);
    assert!(fresh <= Duration::from_secs(left as u64), "not beyond exp");
    assert!(fresh <= provider.cache_ttl);
    let lifetime = Lifetime::new(provider, &verdict, fresh, fresh);
    assert!(lifetime.refresh.is_none_or(|refresh| refresh <= fresh));

    let token = Token::parse(b"a-made-up-token").expect("it is one");
    let entry = sealed::Entry {
        verdict: stored,
        stored: NOW,
        fresh,
        stale: lifetime.stale,
    };
    let fingerprint = &provider.fingerprint;
    let sealed = sealed::seal(fingerprint, token, &entry);
    assert!(!contains(
        &sealed,
        active.jwt_after_sender_check().as_bytes()
    ));
    let opened = sealed::open(fingerprint, token, &mut sealed.clone()).expect("it opens");
    let Verdict::Active(opened_active) = &opened.verdict else {
        panic!("an active verdict comes out as another");
    };
    assert_eq!(said(opened_active), said(active));
    assert_eq!((opened.stored, opened.fresh), (NOW, fresh));

    let other = Token::parse(b"b-made-up-token").expect("it is one");
    assert!(sealed::open(fingerprint, other, &mut sealed.clone()).is_none());
    let mut tampered = sealed;
    let at = message.body.len() % tampered.len();
    tampered[at] ^= 1;
    assert!(sealed::open(fingerprint, token, &mut tampered).is_none());
}

fn assert_inactive(provider: &Provider, message: &Message) {
    match (message.status, provider.dialect) {
        (200, _) => {}
        (204, Dialect::Jwt | Dialect::Auto) => {}
        (400, Dialect::Exchange) => {}
        (status, _) => panic!("{status} is a verdict"),
    }
}

fn assert_error(message: &Message, error: &Error) {
    let text = error.message();
    assert_fit_for_a_log(text);
    assert!(text.starts_with("provider \"main\": "), "{text}");
    // An error quotes at most 64 characters of a JWT.
    let is_compact = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    for run in message.body.split(|byte| !is_compact(byte)) {
        if run.len() > 64 && check_compact(run).is_ok() {
            assert!(!contains(text.as_bytes(), run), "an error shows a JWT");
        }
    }
    if let Some(after) = error.retry_after() {
        assert!((1..=3600).contains(&after.as_secs()));
    }
    assert!((500..600).contains(&error.kind().http_status()));
}

/// A JWT in compact form and nothing else, a byte at a time.
fn assert_jwt(jwt: &str) {
    assert!(jwt.len() <= MAX_JWT_LENGTH);
    assert!(
        jwt.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
    );
    let parts: Vec<_> = jwt.split('.').collect();
    assert_eq!(parts.len(), 3);
    assert!(parts.iter().all(|part| !part.is_empty()));
}

/// Header and payload of a JWT, read by another base64.
fn parts(jwt: &str) -> [Value; 2] {
    let mut parts = jwt.split('.').map(|part| json(&decoded(part)));
    [(); 2].map(|()| parts.next().expect("it has three"))
}

/// JSON as `serde_json` reads it; null if it is invalid.
fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap_or_default()
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// All fields of a verdict, for comparison.
fn said(active: &Active) -> String {
    format!(
        "{} {:?} {} {} {}",
        active.authorization_after_sender_check(),
        active.exp(),
        active.is_bound(),
        active.size(),
        claims_said(active.claims()),
    )
}

fn claims_said(claims: &Claims) -> String {
    format!(
        "{:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {}",
        claims.exp,
        claims.nbf,
        claims.iat,
        claims.scope,
        claims.aud,
        claims.iss,
        claims.sub,
        claims.client_id,
        claims.json(),
    )
}
