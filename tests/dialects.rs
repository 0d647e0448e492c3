//! Dialects through the Rust API: authorization servers that return the JWT in different forms, or return none.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use phantom_token::cache::FirstUse;
use phantom_token::gateway::access_policy::{AccessPolicy, Decision, Resolved};
use phantom_token::gateway::credentials::Credentials;
use phantom_token::gateway::sender::{Proof, RequestContext, Uri};
use phantom_token::jwt::{Algorithm, Expected, KeySet, SigningKey, jwks, verify};
use phantom_token::{
    Active, CacheStatus, Client, ClientOptions, Config, Error, ErrorKind, Resolution, Token,
    Verdict, clock,
};
use serde_json::{Map, Value, json};
use support::{Call, Reply, Server, response};
use tempfile::TempDir;

const TYPE: &str = "token-introspection+jwt";

/// A new private key, as OpenSSL writes it.
fn pem(algorithm: Algorithm) -> String {
    let der = match algorithm {
        Algorithm::ES256 => {
            let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
            pair.to_pkcs8v1().unwrap().as_ref().to_vec()
        }
        Algorithm::EdDSA => {
            let pair = Ed25519KeyPair::generate().unwrap();
            pair.to_pkcs8v1().unwrap().as_ref().to_vec()
        }
        _ => {
            let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
            let der: Pkcs8V1Der<'_> = pair.as_der().unwrap();
            der.as_ref().to_vec()
        }
    };
    format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        STANDARD.encode(der)
    )
}

fn key(algorithm: Algorithm) -> SigningKey {
    let key = SigningKey::from_pem(pem(algorithm).as_bytes()).unwrap();
    key.with_algorithm(algorithm).unwrap()
}

fn members(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => panic!("not an object"),
    }
}

fn later(seconds: i64) -> i64 {
    clock::now().unix + seconds
}

/// The server's behavior, which a test can change while it runs.
struct State {
    /// The signing key.
    key: SigningKey,
    /// The body at `/jwks`, and its status.
    jwks: (u16, String),
}

type Answer = dyn Fn(&State, &Call, &str) -> Reply + Send + Sync;

/// An authorization server with keys. The test defines its answer to `POST`.
struct As {
    server: Server,
    state: Arc<Mutex<State>>,
}

impl As {
    /// `answer` also receives the server's own URL.
    fn start(
        key: SigningKey,
        answer: impl Fn(&State, &Call, &str) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let published = jwks(std::slice::from_ref(&key));
        let state = Arc::new(Mutex::new(State {
            key,
            jwks: (200, published),
        }));
        let shared = Arc::clone(&state);
        let answer: Box<Answer> = Box::new(answer);
        let server = Server::start(move |call| {
            let issuer = format!("http://{}", call.header("host").unwrap_or_default());
            let line = call.head.lines().next().unwrap_or_default();
            let state = shared.lock().unwrap();
            if line.starts_with("GET /jwks ") {
                let (status, body) = &state.jwks;
                return Reply::Bytes(response(*status, &[("Cache-Control", "max-age=0")], body));
            }
            if line.starts_with("GET /.well-known/oauth-authorization-server ") {
                let metadata = json!({
                    "issuer": issuer,
                    "introspection_endpoint": format!("{issuer}/introspect"),
                    "token_endpoint": format!("{issuer}/token"),
                    "jwks_uri": format!("{issuer}/jwks"),
                });
                return Reply::Bytes(response(200, &[], &metadata.to_string()));
            }
            if line.starts_with("POST ") {
                return answer(&state, call, &issuer);
            }
            Reply::Bytes(response(404, &[], ""))
        });
        As { server, state }
    }

    /// A server with signed introspection responses. Each token is active, and its text is its subject.
    fn signing(key: SigningKey) -> Self {
        Self::start(key, |state, call, issuer| {
            signed(&state.key, issuer, &call.token())
        })
    }

    fn issuer(&self) -> String {
        format!("http://{}", self.server.address)
    }

    fn client(&self, settings: &[(&str, &str)]) -> Client {
        let mut config = Config::new("test");
        config.set("issuer", &self.issuer()).unwrap();
        config.set("client_id", "gateway").unwrap();
        config.set("client_auth", "none").unwrap();
        for (key, value) in settings {
            config.set(key, value).unwrap();
        }
        Client::start(config.build().unwrap()).unwrap()
    }

    /// The number of requests with this request line.
    fn count(&self, line: &str) -> usize {
        let calls = self.server.calls();
        calls
            .iter()
            .filter(|call| call.head.starts_with(line))
            .count()
    }

    fn fetched_keys(&self) -> usize {
        self.count("GET /jwks ")
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
    }
}

/// A signed introspection response for an active token, whose text is its subject.
fn signed(key: &SigningKey, issuer: &str, token: &str) -> Reply {
    let claims = json!({
        "iss": issuer, "aud": "gateway", "iat": later(0),
        "token_introspection": {
            "active": token != "gone", "token_type": "Bearer", "sub": token, "scope": "read", "exp": later(300),
        },
    });
    let body = key.sign(Some(TYPE), &members(claims)).unwrap();
    Reply::Bytes(response(
        200,
        &[("Content-Type", "application/token-introspection+jwt")],
        &body,
    ))
}

fn json_reply(status: u16, body: &Value) -> Reply {
    Reply::Bytes(response(
        status,
        &[("Content-Type", "application/json")],
        &body.to_string(),
    ))
}

fn resolve(client: &Client, text: &str) -> Result<Resolution, Error> {
    client.resolve(Token::parse(text.as_bytes()).unwrap(), None)
}

fn active(client: &Client, text: &str) -> Arc<Active> {
    match resolve(client, text).unwrap().verdict {
        Verdict::Active(active) => active,
        Verdict::Inactive => panic!("{text} is inactive"),
    }
}

fn is_inactive(client: &Client, text: &str) -> bool {
    matches!(resolve(client, text).unwrap().verdict, Verdict::Inactive)
}

fn subject(client: &Client, text: &str) -> String {
    let active = active(client, text);
    active
        .claims()
        .sub
        .as_deref()
        .unwrap_or_default()
        .to_owned()
}

fn bad(client: &Client, text: &str) -> String {
    let error = resolve(client, text).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadAnswer, "{error}");
    assert!(!error.message().contains("eyJ"), "{error}");
    error.message().to_owned()
}

const FORWARD: [(&str, &str); 2] = [("dialect", "signed"), ("forward", "signed")];

/// A temporary key file.
struct KeyFile(TempDir);

impl KeyFile {
    fn new(algorithm: Algorithm) -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("key.pem");
        fs::write(&path, pem(algorithm)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        KeyFile(directory)
    }

    fn path(&self) -> String {
        self.0.path().join("key.pem").to_str().unwrap().to_owned()
    }
}

#[test]
fn signed_responses_are_believed_by_their_signature_and_the_keys_fetched_once() {
    for algorithm in [
        Algorithm::ES256,
        Algorithm::RS256,
        Algorithm::PS256,
        Algorithm::EdDSA,
    ] {
        let server = As::signing(key(algorithm));
        let client = server.client(&FORWARD);
        thread::scope(|scope| {
            for number in 0..20 {
                let client = &client;
                scope.spawn(move || {
                    let token = format!("t{number}");
                    assert_eq!(subject(client, &token), token, "{algorithm}");
                });
            }
        });
        assert!(is_inactive(&client, "gone"));
        assert_eq!(server.fetched_keys(), 1, "{algorithm}");
        let calls = server.server.calls();
        let asked = calls.iter().find(|call| call.head.starts_with("POST "));
        assert_eq!(
            asked.unwrap().header("accept"),
            Some("application/token-introspection+jwt")
        );
    }
}

#[test]
fn a_new_key_is_found_at_once_and_a_flood_of_unknown_ones_fetches_once() {
    let server = As::signing(key(Algorithm::ES256));
    let client = server.client(&FORWARD);
    assert_eq!(subject(&client, "before"), "before");
    server.change(|state| {
        state.key = key(Algorithm::ES256);
        state.jwks.1 = jwks(std::slice::from_ref(&state.key));
    });
    assert_eq!(subject(&client, "after"), "after");
    assert_eq!(server.fetched_keys(), 2);

    // From now on the server signs with a key that it does not publish.
    server.change(|state| state.key = key(Algorithm::ES256));
    thread::scope(|scope| {
        for number in 0..50 {
            let client = &client;
            scope.spawn(move || bad(client, &format!("flood{number}")));
        }
    });
    let message = bad(&client, "one-more");
    assert!(message.contains("no key with its kid"), "{message}");
    assert_eq!(
        server.fetched_keys(),
        2,
        "within a minute of the last unknown key"
    );
    assert_eq!(subject(&client, "before"), "before", "what is known stays");
}

#[test]
fn a_flood_of_unknown_keys_alone_fetches_once() {
    let server = As::signing(key(Algorithm::ES256));
    let client = server.client(&FORWARD);
    assert_eq!(subject(&client, "first"), "first");
    server.change(|state| state.key = key(Algorithm::ES256));
    thread::scope(|scope| {
        for number in 0..50 {
            let client = &client;
            scope.spawn(move || bad(client, &format!("flood{number}")));
        }
    });
    assert_eq!(server.fetched_keys(), 2);
}

#[test]
fn the_last_good_keys_are_kept_while_there_are_no_others_to_be_had() {
    let too_many = json!({"keys": vec![json!({"kty": "EC"}); 10_000]}).to_string();
    let good = key(Algorithm::ES256);
    for (status, body) in [(503, ""), (302, ""), (200, "<html>"), (200, &too_many)] {
        let server = As::signing(good.clone());
        let client = server.client(&FORWARD);
        assert_eq!(subject(&client, "a"), "a");
        // A key that is not among them triggers a fetch of the keys, which fails.
        server.change(|state| {
            state.jwks = (status, body.to_owned());
            state.key = key(Algorithm::EdDSA);
        });
        let message = bad(&client, "new");
        assert!(message.contains("no key with its kid"), "{message}");
        assert!(server.fetched_keys() >= 2);
        server.change(|state| state.key = good.clone());
        assert_eq!(subject(&client, "b"), "b", "{status}");
        // The server has recovered, and signs with another key.
        server.change(|state| {
            state.key = key(Algorithm::EdDSA);
            state.jwks = (200, jwks(std::slice::from_ref(&state.key)));
        });
        thread::sleep(Duration::from_millis(1_100));
        assert_eq!(subject(&client, "newest"), "newest");
    }
}

#[test]
fn without_keys_there_is_no_verdict_and_a_request_waits_no_longer_than_it_may() {
    let huge = json!({"keys": [], "x": "a".repeat(600 << 10)}).to_string();
    let too_many = json!({"keys": vec![json!({"kty": "EC"}); 10_000]}).to_string();
    let deep = format!(r#"{{"keys":{}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    for (status, body, expected) in [
        (503, "", "status 503"),
        (404, "", "status 404"),
        (302, "", "status 302"),
        (200, "{}", "not a JSON object with an array"),
        (200, r#"{"keys":[],"keys":[]}"#, "stands twice"),
        (
            200,
            r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#,
            "shared secret",
        ),
        (200, &huge, "longer than 512 KiB"),
        (200, &too_many, "has 10000 keys"),
        (200, &deep, "not a JSON object"),
    ] {
        let server = As::signing(key(Algorithm::ES256));
        server.change(|state| state.jwks = (status, body.to_owned()));
        let client = server.client(&[&FORWARD[..], &[("max_response_size", "2m")]].concat());
        let error = resolve(&client, "t").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadAnswer);
        assert!(
            error.message().contains(expected) && error.message().contains("keys at http://"),
            "{error}"
        );
    }
}

#[test]
fn a_signed_response_that_is_not_for_us_or_not_of_the_issuer_or_not_signed_opens_nothing() {
    type Forge = fn(&SigningKey, &str) -> Reply;
    let cases: [(Forge, &str); 4] = [
        (|key, _| signed(key, "https://evil.example.com", "t"), "iss"),
        (
            |key, issuer| {
                let claims =
                    json!({"iss": issuer, "aud": "other", "token_introspection": {"active": true}});
                Reply::Bytes(response(
                    200,
                    &[],
                    &key.sign(Some(TYPE), &members(claims)).unwrap(),
                ))
            },
            "aud",
        ),
        (
            |key, issuer| {
                let forged = SigningKey::generate().unwrap().with_kid(key.kid());
                signed(&forged, issuer, "t")
            },
            "signature",
        ),
        (
            |_, _| json_reply(200, &json!({"active": true})),
            "plain JSON",
        ),
    ];
    for (forge, expected) in cases {
        let server = As::start(key(Algorithm::ES256), move |state, _, issuer| {
            forge(&state.key, issuer)
        });
        let client = server.client(&FORWARD);
        let message = bad(&client, "t");
        assert!(message.contains(expected), "{message}");
    }
}

/// Verifies a minted JWT like an API that knows only the gateway's published keys.
fn minted(published: &str, active: &Active) -> Map<String, Value> {
    let expected = Expected {
        algorithms: Algorithm::ALL,
        types: Some(&["at+jwt"]),
        issuer: Some("https://gateway.example.com"),
        audiences: None,
        now: clock::now().unix,
        leeway: 0,
    };
    let keys = KeySet::parse(published.as_bytes()).unwrap();
    verify(active.jwt().unwrap(), &keys, &expected).unwrap()
}

/// A server that supports plain RFC 7662, and a gateway that mints JWTs from its responses.
fn minting(settings: &[(&str, &str)]) -> (As, Client, String, KeyFile) {
    let server = As::start(key(Algorithm::ES256), |_, call, _| {
        let token = call.token();
        let known = !token.starts_with("eyJ") && !token.starts_with("http");
        json_reply(
            200,
            &json!({
                "active": known, "token_type": "Bearer", "sub": token, "scope": "read", "exp": later(30),
                "email": "a@example.com",
            }),
        )
    });
    let file = KeyFile::new(Algorithm::ES256);
    let mut config = Config::new("test");
    let path = file.path();
    let base = [
        ("introspection_endpoint", server.server.url()),
        ("dialect", "mint".to_owned()),
        ("mint_key", path),
        ("mint_issuer", "https://gateway.example.com".to_owned()),
    ];
    for (key, value) in &base {
        config.set(key, value).unwrap();
    }
    for (key, value) in settings {
        config.set(key, value).unwrap();
    }
    let provider = config.build().unwrap();
    let published = provider.jwks().unwrap().to_owned();
    (server, Client::start(provider).unwrap(), published, file)
}

#[test]
fn a_jwt_is_minted_once_for_an_entry_and_ends_with_the_token() {
    let (server, client, published, _file) = minting(&[("mint_claims_except", "email")]);
    let first = active(&client, "t");
    let claims = minted(&published, &first);
    assert_eq!(claims["sub"], "t");
    assert!(!claims.contains_key("email"));
    assert!(claims["exp"].as_i64().unwrap() <= later(30));
    for _ in 0..10 {
        let again = resolve(&client, "t").unwrap();
        assert_eq!(again.cache, CacheStatus::Hit);
        let Verdict::Active(again) = again.verdict else {
            panic!("inactive")
        };
        assert_eq!(again.jwt().unwrap(), first.jwt().unwrap());
    }
    assert_eq!(server.count("POST "), 1);
    assert_eq!(server.fetched_keys(), 0, "nothing is verified");

    let (_server, client, published, _file) = minting(&[
        ("mint_claims", "scope"),
        ("mint_ttl", "10s"),
        ("cache_ttl", "5s"),
    ]);
    let short = active(&client, "t");
    let claims = minted(&published, &short);
    assert!(claims["exp"].as_i64().unwrap() <= later(10));
    assert!(!claims.contains_key("sub") && claims["scope"] == "read");
    assert_eq!(short.claims().sub.as_deref(), Some("t"));
}

#[test]
fn a_jwt_that_is_presented_opens_nothing_by_itself() {
    let (server, client, _published, _file) = minting(&[]);
    let ours = active(&client, "t").jwt().unwrap().to_owned();
    // Whether the JWT is ours or not, it is looked up like any other token.
    assert!(is_inactive(&client, &ours));
    assert!(is_inactive(&client, &support::jwt_of("t")));
    assert_eq!(server.count("POST "), 3);
    let calls = server.server.calls();
    assert!(calls.iter().any(|call| call.token() == ours));

    let server = As::signing(key(Algorithm::ES256));
    let client = server.client(&FORWARD);
    let response = active(&client, "t").jwt().unwrap().to_owned();
    assert_eq!(
        subject(&client, &response),
        response,
        "asked about, by its whole text"
    );
    assert_eq!(server.count("POST "), 2);
}

#[test]
fn a_token_that_is_the_url_of_the_keys_is_a_token_like_all_others() {
    let server = As::start(key(Algorithm::ES256), |_, _, _| {
        json_reply(200, &json!({"active": false}))
    });
    let client = server.client(&[("verify", "on")]);
    // A token can't contain a colon (RFC 6750 §2.1), so the URL itself is not a valid token. Without the colon it is
    // one.
    let url = format!("{}/jwks", server.issuer());
    assert!(Token::parse(url.as_bytes()).is_err());
    let fetched = server.fetched_keys();
    for text in ["http//127.0.0.1/jwks", "/jwks", "jwks", "../jwks"] {
        assert!(is_inactive(&client, text));
    }
    assert!(server.fetched_keys() <= fetched.max(1));
    assert_eq!(server.count("POST /introspect "), 4);
}

#[test]
fn a_token_is_exchanged_at_the_token_endpoint_that_the_metadata_names() {
    let server = As::start(key(Algorithm::ES256), |state, call, issuer| {
        assert!(call.head.starts_with("POST /token "));
        let form: Vec<(String, String)> = form_urlencoded::parse(call.body.as_bytes())
            .into_owned()
            .collect();
        let value = |name: &str| {
            let pair = form.iter().find(|(other, _)| other == name);
            pair.map(|(_, value)| value.as_str()).unwrap_or_default()
        };
        let token = value("subject_token");
        let claims =
            json!({"iss": issuer, "sub": token, "aud": value("audience"), "exp": later(300)});
        match token {
            "gone" => json_reply(400, &json!({"error": "invalid_request"})),
            "opaque" => json_reply(200, &json!({"access_token": "an-opaque-token"})),
            "elsewhere" => json_reply(400, &json!({"error": "invalid_target"})),
            "not-us" => json_reply(401, &json!({"error": "invalid_client"})),
            _ => json_reply(
                200,
                &json!({
                    "access_token": state.key.sign(Some("at+jwt"), &members(claims)).unwrap(),
                    "issued_token_type": "urn:ietf:params:oauth:token-type:jwt",
                    "token_type": "N_A", "expires_in": 60,
                }),
            ),
        }
    });
    for verify in ["off", "on"] {
        let client = server.client(&[
            ("dialect", "exchange"),
            ("exchange_audience", "orders"),
            ("verify", verify),
        ]);
        let exchanged = active(&client, "t");
        assert_eq!(exchanged.claims().sub.as_deref(), Some("t"));
        assert_eq!(&*exchanged.claims().aud[0], "orders");
        assert!(exchanged.exp().unwrap() <= later(60));
        assert!(is_inactive(&client, "gone"));
        assert!(bad(&client, "opaque").contains("for an opaque token"));
        assert!(bad(&client, "elsewhere").contains("exchange_audience"));
        let error = resolve(&client, "not-us").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ClientRefused);
    }
}

/// A server that exchanges tokens and ignores their binding, and an introspection endpoint that reports the binding.
fn exchanging() -> Server {
    Server::start(|call| {
        let form: Vec<(String, String)> = form_urlencoded::parse(call.body.as_bytes())
            .into_owned()
            .collect();
        let value = |name: &str| {
            let pair = form.iter().find(|(other, _)| other == name);
            pair.map(|(_, value)| value.clone()).unwrap_or_default()
        };
        if call.head.starts_with("POST /token ") {
            let jwt = support::jwt_of(&value("subject_token"));
            return json_reply(
                200,
                &json!({"access_token": jwt, "token_type": "Bearer", "expires_in": 300}),
            );
        }
        let token = value("token");
        let mut answer = json!({"active": token != "gone", "exp": later(200)});
        match &*token {
            "bound" => {
                answer["cnf"] = json!({"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"})
            }
            "refresh" => answer["token_type"] = json!("refresh_token"),
            "busy" => return Reply::Bytes(response(503, &[], "")),
            _ => {}
        }
        json_reply(200, &answer)
    })
}

/// An authorization server need not report whether the token that it exchanged was bound (RFC 8693). Without that, a
/// stolen token would become a bearer token.
#[test]
fn a_token_that_is_exchanged_stays_bound_to_the_key_of_its_sender() {
    let server = exchanging();
    let token_endpoint = format!("http://{}/token", server.address);
    let exchange = |settings: &[(&str, &str)]| {
        let mut config = Config::new("test");
        let base = [
            ("token_endpoint", &*token_endpoint),
            ("client_id", "gateway"),
            ("client_auth", "none"),
            ("dialect", "exchange"),
        ];
        for (key, value) in base.iter().chain(settings) {
            config.set(key, value).unwrap();
        }
        Client::start(config.build().unwrap()).unwrap()
    };
    let url = server.url();
    let client = exchange(&[("introspection_endpoint", &url)]);
    let bound = active(&client, "bound");
    assert!(bound.is_bound());
    assert_eq!((bound.jwt(), bound.authorization()), (None, None));
    assert!(
        bound
            .claims()
            .get("cnf")
            .is_some_and(|cnf| cnf["jkt"].is_string())
    );
    // Presented as a bearer token it is denied by any policy, from the cache too.
    for _ in 0..2 {
        let mut presented = Credentials::default();
        presented.add_authorization([&b"Bearer bound"[..]].into_iter());
        let request = RequestContext {
            scheme: presented.scheme(),
            method: b"GET",
            uri: Uri::Whole(b"https://api.example.com/"),
            proof: Proof::None,
            certificate: &|| None,
        };
        let policy = AccessPolicy::default();
        let decision = policy.decide_request(
            &presented,
            Resolved::Active(active(&client, "bound")),
            &request,
            clock::now().unix,
            &mut |_, _| FirstUse::First,
        );
        let Decision::Denied(denial) = decision else {
            panic!("it is let in");
        };
        let reason = denial.reason;
        assert_eq!((reason.http_status(), reason.detail()), (401, "scheme"));
    }
    let free = active(&client, "free");
    assert!(free.jwt().is_some() && free.exp().unwrap() <= later(200));
    assert!(is_inactive(&client, "gone") && is_inactive(&client, "refresh"));
    let error = resolve(&client, "busy").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Busy, "{error}");
    assert!(error.message().contains("introspection at"), "{error}");
    // A token that must not be exchanged is not sent to the token endpoint.
    let at_token_endpoint = |token: &str| {
        let calls = server.calls();
        calls
            .iter()
            .any(|call| call.head.starts_with("POST /token ") && call.body.contains(token))
    };
    assert!(at_token_endpoint("free") && at_token_endpoint("bound"));
    assert!(!at_token_endpoint("gone") && !at_token_endpoint("refresh"));

    // If an operator knows that the server binds no tokens, a setting saves the introspection: one call.
    let before = server.calls().len();
    let client = exchange(&[("exchange_introspect", "off")]);
    assert!(!active(&client, "unbound").is_bound());
    assert_eq!(server.calls().len(), before + 1);
}

/// The metadata parameters of RFC 9449 §5.1 and RFC 8705 §3.3.
#[test]
fn a_server_whose_metadata_says_that_it_binds_tokens_is_asked_before_an_exchange() {
    for (member, asked) in [
        (json!({}), 0),
        (json!({"dpop_signing_alg_values_supported": ["ES256"]}), 1),
        (
            json!({"tls_client_certificate_bound_access_tokens": true}),
            1,
        ),
        (
            json!({"tls_client_certificate_bound_access_tokens": false}),
            0,
        ),
    ] {
        let shown = member.to_string();
        let server = Server::start(move |call| {
            let issuer = format!("http://{}", call.header("host").unwrap_or_default());
            if call.head.starts_with("GET ") {
                let mut metadata = members(member.clone());
                metadata.insert("issuer".to_owned(), json!(issuer));
                metadata.insert(
                    "introspection_endpoint".to_owned(),
                    json!(format!("{issuer}/introspect")),
                );
                metadata.insert(
                    "token_endpoint".to_owned(),
                    json!(format!("{issuer}/token")),
                );
                return json_reply(200, &Value::Object(metadata));
            }
            if call.head.starts_with("POST /token ") {
                return json_reply(
                    200,
                    &json!({"access_token": support::jwt_of("t"), "token_type": "Bearer"}),
                );
            }
            json_reply(200, &json!({"active": true, "cnf": {"jkt": "x"}}))
        });
        let mut config = Config::new("test");
        for (key, value) in [
            ("issuer", &*format!("http://{}", server.address)),
            ("client_id", "gateway"),
            ("client_auth", "none"),
            ("dialect", "exchange"),
        ] {
            config.set(key, value).unwrap();
        }
        let client = Client::start(config.build().unwrap()).unwrap();
        assert_eq!(active(&client, "t").is_bound(), asked == 1, "{shown}");
        let introspected = |call: &&Call| call.head.starts_with("POST /introspect ");
        assert_eq!(
            server.calls().iter().filter(introspected).count(),
            asked,
            "{shown}"
        );
    }
}

/// If the server introspects refresh tokens without their type, a refresh token is inactive for the client. The log
/// gives the reason, once.
#[test]
fn a_refresh_token_has_no_jwt_minted_and_the_log_says_what_to_set() {
    let server = As::start(key(Algorithm::ES256), |_, call, _| {
        json_reply(
            200,
            &json!({"active": true, "sub": call.token(), "scope": "read", "exp": later(30)}),
        )
    });
    let file = KeyFile::new(Algorithm::ES256);
    let start = |settings: &[(&str, &str)]| {
        let mut config = Config::new("test");
        let (url, path) = (server.server.url(), file.path());
        let base = [
            ("introspection_endpoint", &*url),
            ("dialect", "mint"),
            ("mint_key", &*path),
            ("mint_issuer", "https://gateway.example.com"),
        ];
        for (key, value) in base.iter().chain(settings) {
            config.set(key, value).unwrap();
        }
        let lines = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&lines);
        let surroundings = ClientOptions {
            log: Some(Arc::new(move |_, line: &str| {
                log.lock().unwrap().push(line.to_owned());
            })),
            ..ClientOptions::default()
        };
        let client = Client::start_with(config.build().unwrap(), surroundings).unwrap();
        (client, lines)
    };
    let (client, lines) = start(&[]);
    for number in 0..20 {
        let token = format!("refresh-{number}");
        assert!(is_inactive(&client, &token));
        // The verdict is cached: the server does not receive the token again.
        assert_eq!(resolve(&client, &token).unwrap().cache, CacheStatus::Hit);
    }
    assert_eq!(server.count("POST "), 20);
    let lines = lines.lock().unwrap();
    assert_eq!(lines.len(), 1, "{lines:?}");
    for text in ["may be a refresh token", "token_type any"] {
        assert!(lines[0].contains(text), "{}", lines[0]);
    }
    assert!(!lines[0].contains("refresh-0"));

    let (client, _) = start(&[("token_type", "any")]);
    assert_eq!(subject(&client, "refresh-0"), "refresh-0");
}

#[test]
fn what_must_verify_and_does_not_is_no_verdict() {
    let server = As::start(key(Algorithm::RS256), |state, call, issuer| {
        let (key, issuer, audience) = match &*call.token() {
            "forged" => (
                key(Algorithm::RS256).with_kid(state.key.kid()),
                issuer,
                "api",
            ),
            "foreign" => (state.key.clone(), "https://evil.example.com", "api"),
            "other" => (state.key.clone(), issuer, "other"),
            _ => (state.key.clone(), issuer, "api"),
        };
        let exp = if call.token() == "expired" { -1 } else { 300 };
        let claims =
            json!({"iss": issuer, "sub": call.token(), "aud": [audience], "exp": later(exp)});
        let jwt = key.sign(Some("at+jwt"), &members(claims)).unwrap();
        match &*call.token() {
            "in-a-claim" => json_reply(200, &json!({"active": true, "jwt": jwt})),
            _ => Reply::Bytes(response(200, &[], &jwt)),
        }
    });
    let client = server.client(&[("verify", "on"), ("verify_audience", "api web")]);
    for token in ["t", "in-a-claim"] {
        assert_eq!(subject(&client, token), token);
    }
    assert!(is_inactive(&client, "expired"));
    for (token, expected) in [
        ("forged", "signature"),
        ("foreign", "iss"),
        ("other", "aud"),
    ] {
        let message = bad(&client, token);
        assert!(message.contains("does not verify"), "{message}");
        assert!(message.contains(expected), "{message}");
    }
    assert_eq!(server.fetched_keys(), 1);
    // Without `verify`, JWTs are not verified.
    let client = server.client(&[]);
    assert_eq!(subject(&client, "forged"), "forged");
}
