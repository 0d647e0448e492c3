use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair,
};
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::AUTHORIZATION;
use proptest::prelude::*;
use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::jwt::{Algorithm, Expected, KeySet, jwks, verify};
use crate::{Config, Provider};

const NOW: i64 = 1_700_000_000;
const ENDPOINT: &str = "https://as.example.com/introspect";
const ID: (&str, &str) = ("client_id", "gateway");
const LONG: &str = "a-SECRET-of-more-than-thirty-two-bytes";

fn provider(settings: &[(&str, &str)]) -> Arc<Provider> {
    let mut config = Config::new("main");
    config.set("introspection_endpoint", ENDPOINT).unwrap();
    for (key, value) in settings {
        config.set(key, value).unwrap();
    }
    config.build().unwrap()
}

/// A file that only its owner may read.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Files(TempDir::new().unwrap())
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
}

fn ec_key() -> String {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    pem(pair.to_pkcs8v1().unwrap().as_ref())
}

fn ed25519_key() -> String {
    pem(Ed25519KeyPair::generate()
        .unwrap()
        .to_pkcs8v1()
        .unwrap()
        .as_ref())
}

fn rsa_key() -> String {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    pem(AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).unwrap().as_ref())
}

/// A form that is sent anyway, with what authenticates it.
fn applied(provider: &Provider, method: ClientAuth, issuer: Option<&str>) -> Request {
    let mut request = Request::form(method, "application/json");
    request.add(&[("token", "t")]);
    let endpoint = &provider.server.introspection[0];
    let credentials = &provider.credentials;
    credentials
        .apply(method, endpoint, issuer, NOW, &mut request)
        .unwrap();
    request
}

fn body(request: &Request) -> &str {
    std::str::from_utf8(&request.body).unwrap()
}

fn authorization(request: &Request) -> Option<&str> {
    let mut values = request
        .headers
        .iter()
        .filter(|(name, _)| name == AUTHORIZATION);
    let (_, value) = values.next()?;
    assert!(values.next().is_none() && value.is_sensitive());
    Some(value.to_str().unwrap())
}

/// The assertion in a form: its header and its claims. The form is exactly what it should be.
fn assertion_in(request: &Request) -> (Value, Value) {
    assert_eq!(authorization(request), None);
    let (start, assertion) = body(request).rsplit_once('=').unwrap();
    assert_eq!(
        start,
        "token=t&client_id=gateway\
         &client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer\
         &client_assertion"
    );
    let parts: Vec<_> = assertion.split('.').collect();
    assert_eq!(parts.len(), 3);
    let [header, claims] = [parts[0], parts[1]]
        .map(|part| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap());
    (header, claims)
}

fn names(names: &[&str]) -> Option<Vec<String>> {
    Some(names.iter().map(|name| (*name).to_owned()).collect())
}

#[test]
fn each_method_sends_its_own_credentials_and_no_others() {
    let id = ("client_id", "my:client é");
    let secret = ("client_secret", "p&ss=w+rd%:/ ~*");
    let provider_with_secret = provider(&[id, secret]);
    let basic = applied(&provider_with_secret, ClientAuth::ClientSecretBasic, None);
    let encoded = authorization(&basic).unwrap().strip_prefix("Basic ");
    assert_eq!(
        STANDARD.decode(encoded.unwrap()).unwrap(),
        b"my%3Aclient+%C3%A9:p%26ss%3Dw%2Brd%25%3A%2F+%7E*"
    );
    assert_eq!(body(&basic), "token=t");

    let post = applied(&provider_with_secret, ClientAuth::ClientSecretPost, None);
    assert_eq!(authorization(&post), None);
    assert_eq!(
        body(&post),
        "token=t&client_id=my%3Aclient+%C3%A9&client_secret=p%26ss%3Dw%2Brd%25%3A%2F+%7E*"
    );

    let provider_with_token = provider(&[("bearer_token", "abc.DEF~/+==")]);
    let bearer = applied(&provider_with_token, ClientAuth::Bearer, None);
    assert_eq!(authorization(&bearer), Some("Bearer abc.DEF~/+=="));
    assert_eq!(body(&bearer), "token=t");

    let public = provider(&[ID, ("client_auth", "none")]);
    for method in [
        ClientAuth::None,
        ClientAuth::TlsClientAuth,
        ClientAuth::SelfSignedTlsClientAuth,
    ] {
        let request = applied(&public, method, None);
        assert_eq!(authorization(&request), None);
        assert_eq!(body(&request), "token=t&client_id=gateway");
    }
    assert_eq!(
        body(&applied(&provider(&[]), ClientAuth::None, None)),
        "token=t"
    );
}

#[test]
fn an_assertion_says_who_we_are_for_whom_and_for_how_long_and_never_the_same_twice() {
    let files = Files::new();
    let [ec, ed25519, rsa] = [
        ("ec.pem", ec_key()),
        ("ed25519.pem", ed25519_key()),
        ("rsa.pem", rsa_key()),
    ]
    .map(|(name, pem)| files.write(name, pem));
    let kid = |path: &str| {
        let key = SigningKey::from_pem(&fs::read(path).unwrap()).unwrap();
        Value::from(key.kid())
    };
    let of_key = ClientAuth::PrivateKeyJwt;
    let secret = ("client_secret", LONG);
    for (settings, method, alg, kid) in [
        (
            vec![ID, secret],
            ClientAuth::ClientSecretJwt,
            "HS256",
            Value::Null,
        ),
        (vec![ID, ("private_key", &*ec)], of_key, "ES256", kid(&ec)),
        (
            vec![ID, ("private_key", &*ed25519)],
            of_key,
            "EdDSA",
            kid(&ed25519),
        ),
        (vec![ID, ("private_key", &*rsa)], of_key, "RS256", kid(&rsa)),
        (
            vec![
                ID,
                ("private_key", &*rsa),
                ("private_key_alg", "PS256"),
                ("private_key_id", "k1"),
            ],
            of_key,
            "PS256",
            "k1".into(),
        ),
    ] {
        let provider = provider(&settings);
        let mut seen = Vec::new();
        for _ in 0..10 {
            let (header, claims) = assertion_in(&applied(&provider, method, None));
            assert_eq!(header["typ"], "JWT");
            assert!(header.as_object().unwrap().len() <= 3);
            assert_eq!(header["alg"], alg);
            assert_eq!(header["kid"], kid);
            assert_eq!(claims["iss"], "gateway");
            assert_eq!(claims["sub"], "gateway");
            assert_eq!(claims["aud"], ENDPOINT);
            assert_eq!(claims["iat"], NOW);
            assert_eq!(claims["exp"], NOW + 60);
            let jti = claims["jti"].as_str().unwrap().to_owned();
            assert!(jti.len() >= 16 && !seen.contains(&jti));
            seen.push(jti);
            assert_eq!(claims.as_object().unwrap().len(), 6);
        }
    }
}

#[test]
fn an_assertion_is_verified_by_the_public_key() {
    let files = Files::new();
    let path = files.write("key.pem", ec_key());
    let provider = provider(&[ID, ("private_key", &path)]);
    let request = applied(&provider, ClientAuth::PrivateKeyJwt, None);
    let key = SigningKey::from_pem(&fs::read(&path).unwrap()).unwrap();
    let keys = KeySet::parse(jwks(&[key]).as_bytes()).unwrap();
    let expected = Expected {
        algorithms: &[Algorithm::ES256],
        types: Some(&["JWT"]),
        issuer: Some("gateway"),
        audiences: Some(&[ENDPOINT]),
        now: NOW,
        leeway: 0,
    };
    let (_, assertion) = body(&request).rsplit_once('=').unwrap();
    assert!(verify(assertion, &keys, &expected).is_ok());
}

#[test]
fn an_assertion_is_for_the_issuer_where_that_is_known_and_for_whom_is_configured_before_that() {
    let issuer = "https://as.example.com";
    let secret = ("client_secret", LONG);
    let method = ClientAuth::ClientSecretJwt;
    let (_, claims) = assertion_in(&applied(&provider(&[ID, secret]), method, Some(issuer)));
    assert_eq!(claims["aud"], issuer);
    let provider = provider(&[ID, secret, ("assertion_audience", "urn:other")]);
    let (_, claims) = assertion_in(&applied(&provider, method, Some(issuer)));
    assert_eq!(claims["aud"], "urn:other");
}

#[test]
fn the_method_is_the_first_of_ours_that_the_server_lists() {
    let files = Files::new();
    let key = files.write("key.pem", ec_key());
    let short = vec![ID, ("client_secret", "s")];
    let long = vec![ID, ("client_secret", LONG)];
    let key = vec![ID, ("private_key", &*key)];
    let all = &[
        "none",
        "client_secret_jwt",
        "client_secret_post",
        "client_secret_basic",
        "private_key_jwt",
    ][..];
    for (settings, supported, expected) in [
        (&short, None, ClientAuth::ClientSecretBasic),
        (&short, Some(all), ClientAuth::ClientSecretBasic),
        (&short, Some(&all[..3]), ClientAuth::ClientSecretPost),
        (&short, Some(&all[..2]), ClientAuth::ClientSecretBasic),
        (&long, Some(&all[..2]), ClientAuth::ClientSecretJwt),
        (&long, Some(&[][..]), ClientAuth::ClientSecretBasic),
        (&key, None, ClientAuth::PrivateKeyJwt),
        (&key, Some(&all[..2]), ClientAuth::PrivateKeyJwt),
    ] {
        let supported = supported.and_then(names);
        let credentials = &provider(settings).credentials;
        assert_eq!(credentials.method(supported.as_deref()), expected);
    }
    let set = provider(&[&long[..], &[("client_auth", "client_secret_post")]].concat());
    let supported = names(all);
    assert_eq!(
        set.credentials.method(supported.as_deref()),
        ClientAuth::ClientSecretPost
    );
}

#[test]
fn where_a_server_says_nothing_of_introspection_its_token_endpoint_stands_in() {
    let provider = provider(&[ID, ("client_secret", "s")]);
    let mut server = Server {
        token_auth_methods: names(&["client_secret_post"]),
        ..Server::default()
    };
    let credentials = &provider.credentials;
    assert_eq!(
        credentials.method_at_introspection(&server),
        ClientAuth::ClientSecretPost
    );
    assert_eq!(credentials.warn_if_unlisted(&server), None);
    server.introspection_auth_methods = names(&["client_secret_basic"]);
    assert_eq!(
        credentials.method_at_introspection(&server),
        ClientAuth::ClientSecretBasic
    );
    assert_eq!(
        credentials.method_at_token_endpoint(&server),
        ClientAuth::ClientSecretPost
    );
}

#[test]
fn a_method_that_the_server_does_not_list_is_warned_about() {
    let server = Server {
        introspection_auth_methods: names(&[
            "private_key_jwt",
            "a\nforged line",
            "tls_client_auth",
        ]),
        token_auth_methods: names(&["private_key_jwt"]),
        grant_types: names(&["authorization_code"]),
        ..Server::default()
    };
    let warning = |settings: &[(&str, &str)]| {
        let credentials = &provider(settings).credentials;
        credentials.warn_if_unlisted(&server)
    };
    let secret = ("client_secret", "hidden-SECRET");
    let text = warning(&[ID, secret]).unwrap();
    assert_eq!(
        text,
        "provider \"main\": client_auth client_secret_basic is none of those that the authorization server lists \
         (introspection_endpoint_auth_methods_supported: private_key_jwt, tls_client_auth); if it refuses us, set up \
         one of them"
    );
    assert_eq!(warning(&[("bearer_token", "t")]), None);
    let grant = [
        ID,
        secret,
        ("client_auth", "client_credentials"),
        ("token_endpoint", "https://as.example.com/token"),
    ];
    assert!(warning(&grant).unwrap().contains("grant_types_supported"));
    let files = Files::new();
    let key = files.write("key.pem", ec_key());
    assert_eq!(warning(&[ID, ("private_key", &key)]), None);
}

#[test]
fn what_is_not_configured_cannot_be_sent_and_no_error_shows_a_secret() {
    let provider = provider(&[ID, ("client_secret", "hidden-SECRET")]);
    let endpoint = &provider.server.introspection[0];
    for method in [
        ClientAuth::PrivateKeyJwt,
        ClientAuth::ClientSecretJwt,
        ClientAuth::Bearer,
    ] {
        let mut request = Request::form(method, "x/x");
        let error = provider
            .credentials
            .apply(method, endpoint, None, NOW, &mut request)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal);
        let text = format!("{error} {error:?}");
        assert!(text.contains(method.as_str()), "{text}");
        assert!(!text.contains("SECRET"), "{text}");
        assert!(request.body.is_empty() && authorization(&request).is_none());
    }
}

#[test]
fn a_file_is_read_again_and_what_it_holds_is_used() {
    let files = Files::new();
    let path = files.write("secret", "one\n");
    let provider = provider(&[
        ID,
        ("client_secret_file", &path),
        ("client_auth", "client_secret_post"),
    ]);
    let credentials = &provider.credentials;
    let sent = || {
        let request = applied(&provider, ClientAuth::ClientSecretPost, None);
        body(&request).rsplit_once('=').unwrap().1.to_owned()
    };
    assert!(provider.may_read_credential_again(0));
    assert_eq!(provider.read_credential_again(0), Ok(false));
    assert_eq!((credentials.number(), sent()), (0, "one".to_owned()));

    files.write("secret", "two\n");
    assert!(!provider.may_read_credential_again(9_999), "so soon");
    assert!(provider.may_read_credential_again(10_000));
    assert_eq!(provider.read_credential_again(10_000), Ok(true));
    assert_eq!((credentials.number(), sent()), (1, "two".to_owned()));

    files.write("secret", "hidden-SECRET\nx");
    let Err(why) = provider.read_credential_again(20_000) else {
        panic!("used");
    };
    let why = why.to_string();
    assert!(
        why.contains("control character") && !why.contains("SECRET"),
        "{why}"
    );
    fs::remove_file(&path).unwrap();
    let Err(why) = provider.read_credential_again(30_000) else {
        panic!("used");
    };
    let why = why.to_string();
    assert!(why.contains("cannot be read"), "{why}");
    assert_eq!((credentials.number(), sent()), (1, "two".to_owned()));
}

#[test]
fn what_no_file_holds_is_not_read_again() {
    let provider = provider(&[ID, ("client_secret", "s")]);
    assert!(!provider.may_read_credential_again(1_000_000));
    assert_eq!(provider.read_credential_again(0), Ok(false));
}

#[test]
fn a_key_that_is_replaced_signs_under_its_own_name() {
    let files = Files::new();
    let path = files.write("key.pem", ec_key());
    let provider = provider(&[ID, ("private_key", &path)]);
    let kid = || {
        let request = applied(&provider, ClientAuth::PrivateKeyJwt, None);
        assertion_in(&request).0["kid"].clone()
    };
    let before = kid();
    assert_eq!(provider.read_credential_again(0), Ok(false));
    files.write("key.pem", ed25519_key());
    assert_eq!(provider.read_credential_again(0), Ok(true));
    assert_ne!(kid(), before);
}

proptest! {
    #[test]
    fn a_server_reads_back_exactly_what_we_are_called_and_our_secret(id in "\\PC{1,40}", secret in "\\PC{1,60}") {
        let settings = [("client_id", &*id), ("client_secret", &*secret)];
        let provider = provider(&settings);
        let post = applied(&provider, ClientAuth::ClientSecretPost, None);
        let pairs: Vec<_> = form_urlencoded::parse(&post.body).into_owned().collect();
        let expected = [("token", "t"), ("client_id", &*id), ("client_secret", &*secret)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        prop_assert_eq!(pairs, expected);

        let basic = applied(&provider, ClientAuth::ClientSecretBasic, None);
        let pair = authorization(&basic).unwrap().strip_prefix("Basic ").unwrap();
        let pair = String::from_utf8(STANDARD.decode(pair).unwrap()).unwrap();
        let (encoded_id, encoded_secret) = pair.split_once(':').unwrap();
        for (encoded, value) in [(encoded_id, &id), (encoded_secret, &secret)] {
            let (decoded, _) = form_urlencoded::parse(encoded.as_bytes()).next().unwrap();
            prop_assert_eq!(&*decoded, value.as_str());
        }
    }
}
