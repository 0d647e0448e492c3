use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use tempfile::TempDir;

use http::header::AUTHORIZATION;

use super::*;
use crate::jwt::Algorithm;
use crate::jwt::testing::{pem, pkcs8};
use crate::oauth::Request;

const ENDPOINT: (&str, &str) = (
    "introspection_endpoint",
    "https://as.example.com/introspect",
);
const ID: (&str, &str) = ("client_id", "gateway");
const SECRET: (&str, &str) = ("client_secret", "hunter2-SECRET");

/// A configuration with these keys set, all of which are right.
fn config(settings: &[(&str, &str)]) -> Config {
    let mut config = Config::new("main");
    for (key, value) in settings {
        config.set(key, value).unwrap();
    }
    config
}

fn built(settings: &[(&str, &str)]) -> Arc<Provider> {
    config(settings).build().unwrap()
}

/// The error of `build` for settings each of which is valid.
fn refused(settings: &[(&str, &str)]) -> String {
    config(settings).build().unwrap_err().to_string()
}

/// The error of `set` for a value.
fn set(key: &str, value: &str) -> String {
    Config::new("main").set(key, value).unwrap_err().to_string()
}

/// The client authentication of a call: the value of `Authorization`, and the form.
fn sent(provider: &Provider) -> (Option<String>, String) {
    let method = provider.credentials.method(None);
    let endpoint = &provider.server.introspection[0];
    let mut request = Request::form(method, "x/x");
    let applied = provider
        .credentials
        .apply(method, endpoint, None, 0, &mut request);
    applied.unwrap();
    let value = request
        .headers
        .iter()
        .find(|(name, _)| name == AUTHORIZATION);
    let value = value.map(|(_, value)| {
        assert!(value.is_sensitive());
        value.to_str().unwrap().to_owned()
    });
    (value, String::from_utf8(request.body.to_vec()).unwrap())
}

fn authorization(provider: &Provider) -> Option<String> {
    sent(provider).0
}

fn form(provider: &Provider) -> String {
    sent(provider).1
}

fn method(provider: &Provider) -> ClientAuth {
    provider.credentials.method(None)
}

/// Temporary files that only their owner may read.
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

#[test]
fn the_defaults_are_those_of_the_documentation() {
    let provider = built(&[ENDPOINT]);
    assert_eq!(provider.name(), "main");
    assert_eq!(provider.server.introspection[0].url.as_str(), ENDPOINT.1);
    assert_eq!(method(&provider), ClientAuth::None);
    assert_eq!(provider.dialect, Dialect::Auto);
    assert_eq!(provider.jwt_claims, ["jwt", "phantom_token"]);
    assert_eq!(provider.timeout(), Duration::from_secs(5));
    assert_eq!(provider.connect_timeout, Duration::from_secs(2));
    assert_eq!(provider.retries, 1);
    assert_eq!(provider.max_concurrent, 256);
    assert_eq!(provider.max_waiting, 16_384);
    assert_eq!(provider.max_response_size, 65_536);
    assert_eq!(provider.cache_size, 64 * 1024 * 1024);
    assert_eq!(provider.cache_entries, 200_000);
    assert_eq!(provider.cache_ttl, Duration::from_secs(60));
    assert_eq!(provider.cache_inactive_ttl, Duration::from_secs(10));
    assert_eq!(provider.cache_control, CacheControl::MaxAge);
    assert_eq!(provider.refresh_ahead, 0);
    assert_eq!(provider.stale_if_error, Duration::ZERO);
    assert_eq!(provider.max_fails, 5);
    assert_eq!(provider.fail_timeout, Duration::from_secs(1));
    assert!(provider.ssl_verify);
    assert!(provider.trusted_certificates.is_none());
    assert!(provider.client_certificate.is_none());
    assert_eq!(provider.ssl_name, None);
    assert_eq!(provider.ssl_protocols, SslProtocols::Both);
    assert!(provider.proxy.is_none());
    assert_eq!(authorization(&provider), None);
    assert_eq!(form(&provider), "");
    assert!(provider.warnings().is_empty());
}

#[test]
fn every_key_can_be_set_and_arrives() {
    let provider = built(&[
        (
            "introspection_endpoint",
            "http://127.0.0.1:8443/a/b?tenant=x",
        ),
        ("client_id", "gateway"),
        ("client_secret", "s"),
        ("client_auth", "client_secret_post"),
        ("dialect", "json"),
        ("jwt_claim", "access_jwt  jwt access_jwt"),
        ("timeout", "1m"),
        ("connect_timeout", "500ms"),
        ("retries", "3"),
        ("max_concurrent", "1"),
        ("max_waiting", "7"),
        ("max_response_size", "1m"),
        ("cache_size", "0"),
        ("cache_entries", "0"),
        ("cache_ttl", "1h 30m"),
        ("cache_inactive_ttl", "0"),
        ("cache_control", "strict"),
        ("refresh_ahead", "10%"),
        ("stale_if_error", "1h"),
        ("max_fails", "0"),
        ("fail_timeout", "250ms"),
        ("ssl_verify", "off"),
        ("ssl_protocols", "TLSv1.3"),
        ("proxy", "http://localhost:3128"),
    ]);
    assert_eq!(provider.ssl_protocols, SslProtocols::Tls13);
    assert_eq!(
        provider.proxy.as_ref().unwrap().shown,
        "http://localhost:3128"
    );
    assert_eq!(provider.refresh_ahead, 10);
    assert_eq!(provider.stale_if_error, Duration::from_secs(3600));
    assert_eq!(provider.max_fails, 0);
    assert_eq!(provider.fail_timeout, Duration::from_millis(250));
    assert_eq!(
        provider.server.introspection[0].url.as_str(),
        "http://127.0.0.1:8443/a/b?tenant=x"
    );
    assert_eq!(method(&provider), ClientAuth::ClientSecretPost);
    assert_eq!(provider.dialect, Dialect::Json);
    assert_eq!(provider.jwt_claims, ["access_jwt", "jwt"]);
    assert_eq!(provider.timeout, Duration::from_secs(60));
    assert_eq!(provider.connect_timeout, Duration::from_millis(500));
    assert_eq!(provider.retries, 3);
    assert_eq!(provider.max_concurrent, 1);
    assert_eq!(provider.max_waiting, 7);
    assert_eq!(provider.max_response_size, 1 << 20);
    assert_eq!((provider.cache_size, provider.cache_entries), (0, 0));
    assert_eq!(provider.cache_ttl, Duration::from_secs(5_400));
    assert_eq!(provider.cache_inactive_ttl, Duration::ZERO);
    assert_eq!(provider.cache_control, CacheControl::Strict);
    assert!(!provider.ssl_verify);
}

#[test]
fn the_keys_are_listed_once_each_and_all_can_be_set() {
    let keys = Config::keys();
    assert_eq!(keys.len(), 54);
    for (index, key) in keys.iter().enumerate() {
        assert!(!keys[..index].contains(key), "{key} stands twice");
        if let Err(error) = Config::new("x").set(key, "") {
            assert!(!error.to_string().contains("there is no key"), "{error}");
        }
    }
}

#[test]
fn no_key_takes_an_empty_value() {
    for key in Config::keys() {
        let message = set(key, "");
        assert!(
            message.starts_with(&format!("provider \"main\": {key} ")),
            "{message}"
        );
    }
}

#[test]
fn a_refusal_names_provider_key_value_and_mend() {
    for (key, value, message) in [
        (
            "timeout",
            "5x",
            "timeout \"5x\" is not a time: write it as 500ms, 5s or 1m",
        ),
        (
            "timeout",
            "0",
            "timeout \"0\" is out of range: it must be 1ms to 1d",
        ),
        (
            "connect_timeout",
            "0ms",
            "connect_timeout \"0ms\" is out of range: it must be 1ms to 1d",
        ),
        (
            "cache_ttl",
            "2y",
            "cache_ttl \"2y\" is out of range: it must be 0 to 365d",
        ),
        (
            "refresh_ahead",
            "91%",
            "refresh_ahead \"91%\" is out of range: it must be 0 to 90",
        ),
        (
            "fail_timeout",
            "0",
            "fail_timeout \"0\" is out of range: it must be 1ms to 1d",
        ),
        (
            "retries",
            "4",
            "retries \"4\" is out of range: it must be 0 to 3",
        ),
        (
            "retries",
            "many",
            "retries \"many\" is not a number: write it as digits, 0 to 3",
        ),
        (
            "max_concurrent",
            "0",
            "max_concurrent \"0\" is out of range: it must be 1 to 1048576",
        ),
        (
            "max_waiting",
            "0",
            "max_waiting \"0\" is out of range: it must be 1 to 16777216",
        ),
        (
            "max_response_size",
            "1023",
            "max_response_size \"1023\" is out of range: it must be 1k to 16m",
        ),
        (
            "max_response_size",
            "17m",
            "max_response_size \"17m\" is out of range: it must be 1k to 16m",
        ),
        (
            "cache_size",
            "64mb",
            "cache_size \"64mb\" is not a size: write it as 64k, 10m or 1g",
        ),
        (
            "dialect",
            "JWT",
            "dialect \"JWT\" is not one of the choices: write jwt, json, signed, exchange, mint or auto",
        ),
        (
            "client_auth",
            "basic",
            "client_auth \"basic\" is not one of the choices: write client_secret_basic, client_secret_post, \
             client_secret_jwt, private_key_jwt, tls_client_auth, self_signed_tls_client_auth, bearer, client_credentials \
             or none",
        ),
        (
            "cache_control",
            "no",
            "cache_control \"no\" is not one of the choices: write max-age, strict or ignore",
        ),
        (
            "ssl_verify",
            "yes",
            "ssl_verify \"yes\" is not a switch: write it as on or off",
        ),
        (
            "jwt_claim",
            " ",
            "jwt_claim \" \" is empty: name the claim that holds the JWT, or leave it out",
        ),
        (
            "jwt_claim",
            "jwt active",
            "jwt_claim \"jwt active\" names the member that says whether the token is active: name the one that \
             holds the JWT",
        ),
        (
            "client_id",
            "a\nb",
            "client_id \"a\\nb\" has a line break or another control character in it: remove that",
        ),
        (
            "client_secret_file",
            "",
            "client_secret_file \"\" is empty: name a file, or leave it out",
        ),
        (
            "ssl_certificate_key",
            "",
            "ssl_certificate_key \"\" is empty: name a file, or leave it out",
        ),
        (
            "ssl_protocols",
            "TLSv1.1 TLSv1.2",
            "ssl_protocols \"TLSv1.1 TLSv1.2\" names a version that is broken (RFC 8996) and not spoken here: write \
             TLSv1.2, TLSv1.3 or both",
        ),
        (
            "ssl_protocols",
            "TLSv1.2,TLSv1.3",
            "ssl_protocols \"TLSv1.2,TLSv1.3\" is not a list of versions: write TLSv1.2, TLSv1.3 or both, with a space \
             between",
        ),
        (
            "ssl_protocols",
            " ",
            "ssl_protocols \" \" is empty: write TLSv1.2, TLSv1.3 or both, or leave it out",
        ),
        (
            "ssl_name",
            "192.0.2.1",
            "ssl_name \"192.0.2.1\" is an address, which TLS does not send as a name (RFC 6066 §3): set it to a host name",
        ),
    ] {
        assert_eq!(set(key, value), format!("provider \"main\": {message}"));
    }
}

#[test]
fn a_key_that_is_refused_keeps_its_value() {
    let mut config = config(&[("timeout", "7s"), ("client_id", "me")]);
    assert!(config.set("timeout", "soon").is_err());
    assert!(config.set("client_id", "").is_err());
    assert_eq!(config.timeout, Duration::from_secs(7));
    assert_eq!(config.client_id.as_deref(), Some("me"));
}

#[test]
fn an_unknown_key_names_the_nearest() {
    for (key, nearest) in [
        ("timeuot", "timeout"),
        ("client-id", "client_id"),
        ("clientid", "client_id"),
        ("Dialect", "dialect"),
        ("introspection_enpoint", "introspection_endpoint"),
        ("ssl_trusted_certificates", "ssl_trusted_certificate"),
        ("cache_inactiv_ttl", "cache_inactive_ttl"),
    ] {
        assert_eq!(
            set(key, "x"),
            format!("provider \"main\": there is no key \"{key}\"; did you mean \"{nearest}\"?")
        );
    }
    for key in ["redis", "realm", "", "x\ny"] {
        let message = set(key, "x");
        assert!(
            message.contains("the keys are: issuer, introspection_endpoint, token_endpoint, jwks_uri, client_id, "),
            "{message}"
        );
        assert!(!message.contains('\n'));
    }
}

#[test]
fn a_long_value_is_cut_in_a_message() {
    let message = set("timeout", &"é".repeat(10_000));
    assert!(message.len() < 400, "{} bytes", message.len());
    assert!(message.contains("is not a time"));
}

#[test]
fn what_is_set_through_the_fields_is_held_to_the_same_rules() {
    let check = |change: fn(&mut Config), expected: &str| {
        let mut config = config(&[ENDPOINT]);
        change(&mut config);
        let message = config.build().unwrap_err().to_string();
        assert_eq!(message, format!("provider \"main\": {expected}"));
    };
    check(
        |config| config.timeout = Duration::ZERO,
        "timeout 0ns is out of range: it must be 1ms to 1d",
    );
    check(
        |config| config.retries = 9,
        "retries 9 is out of range: it must be 0 to 3",
    );
    check(
        |config| config.max_concurrent = 0,
        "max_concurrent 0 is out of range: it must be 1 to 1048576",
    );
    check(
        |config| config.max_response_size = 1,
        "max_response_size 1 is out of range: it must be 1024 to 16777216",
    );
    check(
        |config| config.client_id = Some(String::new()),
        "client_id \"\" is empty: set it, or leave it out",
    );
    check(
        |config| config.client_secret = Some(Secret::new("a\r\nb")),
        "client_secret has a line break or another control character in it: remove that",
    );
    check(
        |config| config.bearer_token = Some(Secret::new("Bearer x")),
        "bearer_token is not a bearer token: the access token has a byte that RFC 6750 does not allow; set it to \
         the token alone, without \"Bearer\"",
    );
    check(
        |config| config.client_secret_file = Some(PathBuf::new()),
        "client_secret_file \"\" is empty: name a file, or leave it out",
    );
    check(
        |config| config.jwt_claim = Some(Vec::new()),
        "jwt_claim \"\" is empty: name the claim that holds the JWT, or leave it out",
    );
    check(
        |config| config.mint_alg = Some(Algorithm::ES256),
        "mint_alg \"ES256\" is not one of the choices: write RS256, RS384, RS512, PS256, PS384 or PS512",
    );
    check(
        |config| config.mint_key = vec![PathBuf::new()],
        "mint_key [\"\"] has an empty name in it: name files",
    );
    // Joined as text, these would be two audiences, or one.
    for words in [["orders bills", "stock"], ["", "orders"]] {
        let mut config = config(&[
            ENDPOINT,
            ("verify", "on"),
            ("issuer", "https://as.example.com"),
        ]);
        config.verify_audience = Some(words.map(str::to_owned).to_vec());
        let message = config.build().unwrap_err().to_string();
        assert!(
            message
                .ends_with("has a member that is empty or holds a space: write one word in each"),
            "{message}"
        );
    }
}

/// The URL of an endpoint that was read can be changed in its field.
#[test]
fn an_endpoint_that_is_changed_in_its_field_is_checked_again() {
    let changed = |change: fn(&mut Config)| {
        let mut config = config(&[ENDPOINT, ("token_endpoint", "https://as.example.com/token")]);
        change(&mut config);
        assert!(!format!("{config:?}").contains("SECRET"));
        let message = config.build().unwrap_err().to_string();
        assert!(!message.contains("SECRET"), "{message}");
        message
    };
    let message = changed(|config| {
        let url = &mut config.introspection_endpoint[0].url;
        url.set_password(Some("SECRET")).unwrap();
    });
    assert!(
        message.contains("introspection_endpoint has a user or a password in it"),
        "{message}"
    );
    let message = changed(|config| {
        let url = &mut config.token_endpoint.as_mut().unwrap().url;
        url.set_fragment(Some("SECRET"));
    });
    assert!(
        message.contains("token_endpoint has a fragment"),
        "{message}"
    );
    let message = changed(|config| {
        let first = config.introspection_endpoint[0].clone();
        config.introspection_endpoint.push(first);
    });
    assert!(
        message.contains("URL number 2 stands in it already"),
        "{message}"
    );
    let message = changed(|config| {
        config.token_endpoint = Some(config.introspection_endpoint[0].clone());
    });
    assert!(
        message.contains("token_endpoint is not as it would be read"),
        "{message}"
    );
}

#[test]
fn without_an_endpoint_there_is_no_provider() {
    assert!(
        refused(&[ID, SECRET])
            .starts_with("provider \"main\": introspection_endpoint is missing: set it to")
    );
}

#[test]
fn only_plain_http_urls_are_endpoints() {
    for url in [
        "as.example.com/introspect",
        "//as.example.com/",
        "/introspect",
        "ftp://as.example.com/",
        "file:///etc/passwd",
        "https:as.example.com",
        "https:/as.example.com",
        "https://",
        "https:///introspect",
        "https://?x",
        "http://#",
        "https://:443/",
        "https://as.example.com:99999/",
        "https://as.example.com:0/",
        "https://[::1/",
        "https://as.example.com/#top",
        "https://as.example.com/#",
        "https://a b/",
        " https://a/",
        "https://a/ ",
        "https://a/\n",
        "https://a\\b/",
        "https://a\tb/",
        "https://a/\0",
        "https://exa%zzmple/",
        "https://$host/introspect",
        "https://as.$domain/",
        "https://a,b/",
        "https://a'b/",
        "https://as.example.com/\u{a0}x",
    ] {
        let message = set("introspection_endpoint", url);
        assert!(
            message.starts_with("provider \"main\": introspection_endpoint "),
            "{url:?}: {message}"
        );
    }
    for url in [
        "https://as.example.com",
        "HTTPS://AS.EXAMPLE.COM/X",
        "http://localhost:8080/introspect?a=b&c=d",
        "http://[::1]:8443/",
        "https://192.0.2.1/",
        "https://bücher.example/",
    ] {
        assert!(
            config(&[("introspection_endpoint", url)]).build().is_ok(),
            "{url}"
        );
    }
}

#[test]
fn a_password_in_the_endpoint_is_refused_and_not_repeated() {
    for url in [
        "https://user:SECRET@as.example.com/",
        "https://SECRET@as.example.com/",
        "https://:SECRET@as.example.com/",
        "https://@as.example.com/?SECRET",
        "https://user:SECRET@as.example.com:port/",
        "ftp://user:SECRET@as.example.com/",
        "https://as.example.com/?key=SECRET#f",
    ] {
        let mut config = Config::new("main");
        let message = config
            .set("introspection_endpoint", url)
            .unwrap_err()
            .to_string();
        assert!(!message.contains("SECRET"), "{message}");
        // The secret is not kept, not even in part.
        let message = config.build().unwrap_err().to_string();
        assert!(!message.contains("SECRET"), "{message}");
        assert!(!format!("{config:?}").contains("SECRET"));
    }
    assert!(
        set("introspection_endpoint", "https://u:p@h/").contains("set client_id and client_secret")
    );
    // After the host an @ has no special meaning.
    assert!(
        config(&[("introspection_endpoint", "https://h/@x?y@z")])
            .build()
            .is_ok()
    );
}

#[test]
fn the_way_to_authenticate_follows_from_what_is_set() {
    for (settings, expected) in [
        (vec![ENDPOINT], ClientAuth::None),
        (vec![ENDPOINT, ID, SECRET], ClientAuth::ClientSecretBasic),
        (vec![ENDPOINT, ("bearer_token", "t")], ClientAuth::Bearer),
        (
            vec![ENDPOINT, ID, SECRET, ("client_auth", "client_secret_post")],
            ClientAuth::ClientSecretPost,
        ),
        (
            vec![ENDPOINT, ID, ("client_auth", "none")],
            ClientAuth::None,
        ),
    ] {
        assert_eq!(method(&built(&settings)), expected, "{settings:?}");
    }
}

#[test]
fn contradictions_are_refused() {
    let bearer = ("bearer_token", "t");
    let auth = |method| ("client_auth", method);
    for (settings, expected) in [
        (
            vec![ID, SECRET, ("client_secret_file", "/x")],
            "client_secret and client_secret_file are both set: remove one of the two",
        ),
        (
            vec![bearer, ("bearer_token_file", "/x")],
            "bearer_token and bearer_token_file are both set: remove one of the two",
        ),
        (
            vec![ID, SECRET, bearer],
            "client_secret and bearer_token are both set: remove the one that is not for this authorization server",
        ),
        (
            vec![SECRET],
            "client_id is missing: client_auth client_secret_basic needs it",
        ),
        (
            vec![SECRET, auth("client_secret_post")],
            "client_id is missing: client_auth client_secret_post needs it",
        ),
        (
            vec![ID, auth("client_secret_basic")],
            "client_secret or client_secret_file is missing: client_auth client_secret_basic needs it",
        ),
        (
            vec![ID],
            "client_secret or client_secret_file is missing: client_id is set; if this client has no secret, set \
             client_auth none",
        ),
        (
            vec![ID, auth("bearer")],
            "bearer_token or bearer_token_file is missing: client_auth bearer needs it",
        ),
        (
            vec![ID, SECRET, auth("none")],
            "client_secret is set but not used with client_auth none: remove one of the two",
        ),
        (
            vec![bearer, auth("none")],
            "bearer_token is set but not used with client_auth none: remove one of the two",
        ),
        (
            vec![ID, SECRET, bearer, auth("client_secret_basic")],
            "bearer_token is set but not used with client_auth client_secret_basic: remove one of the two",
        ),
        (
            vec![ID, ("client_secret_file", "/x"), bearer, auth("bearer")],
            "client_secret_file is set but not used with client_auth bearer: remove one of the two",
        ),
        (
            vec![ID, SECRET, ("private_key", "/x")],
            "client_secret and private_key are both set: remove the one that is not for this authorization server",
        ),
        (
            vec![("private_key", "/x")],
            "client_id is missing: client_auth private_key_jwt needs it",
        ),
        (
            vec![ID, auth("private_key_jwt")],
            "private_key is missing: client_auth private_key_jwt needs it",
        ),
        (
            vec![ID, SECRET, auth("private_key_jwt")],
            "client_secret is set but not used with client_auth private_key_jwt: remove one of the two",
        ),
        (
            vec![ID, ("private_key", "/x"), auth("client_secret_jwt")],
            "private_key is set but not used with client_auth client_secret_jwt: remove one of the two",
        ),
        (
            vec![ID, SECRET, auth("client_secret_jwt")],
            "client_secret is shorter than the 32 bytes that client_auth client_secret_jwt needs (RFC 7518 §3.2): have the \
             authorization server give out a longer one, or set another client_auth",
        ),
        (
            vec![ID, auth("client_credentials")],
            "client_secret, client_secret_file, private_key or ssl_certificate is missing: client_auth \
             client_credentials needs it",
        ),
        (
            vec![ID, SECRET, auth("client_credentials")],
            "token_endpoint or issuer is missing: client_auth client_credentials needs it",
        ),
        (
            vec![auth("tls_client_auth")],
            "client_id is missing: client_auth tls_client_auth needs it",
        ),
        (
            vec![ID, auth("tls_client_auth")],
            "ssl_certificate is missing: client_auth tls_client_auth needs it",
        ),
        (
            vec![ID, SECRET, auth("self_signed_tls_client_auth")],
            "client_secret is set but not used with client_auth self_signed_tls_client_auth: remove one of the two",
        ),
        (
            vec![ID, SECRET, ("private_key_id", "k")],
            "private_key_id is set, but there is no private_key: set that, or remove this",
        ),
        (
            vec![ID, SECRET, ("private_key_alg", "PS256")],
            "private_key_alg is set, but there is no private_key: set that, or remove this",
        ),
        (
            vec![
                ID,
                SECRET,
                auth("client_secret_post"),
                ("assertion_audience", "x"),
            ],
            "assertion_audience is set but not used with client_auth client_secret_post: remove it, or set client_auth \
             private_key_jwt or client_secret_jwt",
        ),
        (
            vec![ID, SECRET, ("client_credentials_scope", "x")],
            "client_credentials_scope is set but not used with client_auth client_secret_basic: remove it, or set \
             client_auth client_credentials",
        ),
        (
            vec![("connect_timeout", "10s")],
            "connect_timeout 10s is longer than timeout (5s), which covers connecting too: shorten it, or raise timeout",
        ),
    ] {
        let settings = [vec![ENDPOINT], settings].concat();
        assert_eq!(refused(&settings), format!("provider \"main\": {expected}"));
    }
}

#[test]
fn a_short_timeout_shortens_the_default_for_connecting() {
    assert_eq!(
        built(&[ENDPOINT, ("timeout", "1s")]).connect_timeout,
        Duration::from_secs(1)
    );
    let both = built(&[ENDPOINT, ("timeout", "10s"), ("connect_timeout", "10s")]);
    assert_eq!(both.connect_timeout, Duration::from_secs(10));
}

#[test]
fn id_and_secret_are_form_encoded_before_base64() {
    let id = ("client_id", "my:client é");
    let secret = ("client_secret", "p&ss=w+rd%:/ ~*");
    let header = authorization(&built(&[ENDPOINT, id, secret])).unwrap();
    let pair = STANDARD
        .decode(header.strip_prefix("Basic ").unwrap())
        .unwrap();
    assert_eq!(
        String::from_utf8(pair).unwrap(),
        "my%3Aclient+%C3%A9:p%26ss%3Dw%2Brd%25%3A%2F+%7E*"
    );
    let provider = built(&[ENDPOINT, id, secret, ("client_auth", "client_secret_post")]);
    assert_eq!(authorization(&provider), None);
    assert_eq!(
        form(&provider),
        "client_id=my%3Aclient+%C3%A9&client_secret=p%26ss%3Dw%2Brd%25%3A%2F+%7E*"
    );
}

#[test]
fn each_method_sends_its_own_credentials_and_no_others() {
    let basic = built(&[ENDPOINT, ID, ("client_secret", "s")]);
    assert_eq!(authorization(&basic).as_deref(), Some("Basic Z2F0ZXdheTpz"));
    assert_eq!(form(&basic), "");

    let bearer = built(&[ENDPOINT, ("bearer_token", "abc.DEF~/+==")]);
    assert_eq!(
        authorization(&bearer).as_deref(),
        Some("Bearer abc.DEF~/+==")
    );
    assert_eq!(form(&bearer), "");

    let none = built(&[ENDPOINT, ID, ("client_auth", "none")]);
    assert_eq!(authorization(&none), None);
    assert_eq!(form(&none), "client_id=gateway");
}

#[test]
fn a_secret_is_read_from_a_file_less_one_line_break() {
    let files = Files::new();
    for (content, expected) in [("s", "s"), ("s\n", "s"), ("s\r\n", "s"), ("  s ", "  s ")] {
        let path = files.write("secret", content);
        let provider = built(&[
            ENDPOINT,
            ID,
            ("client_secret_file", &path),
            ("client_auth", "client_secret_post"),
        ]);
        let expected: String = form_urlencoded::Serializer::new(String::new())
            .append_pair("client_id", "gateway")
            .append_pair("client_secret", expected)
            .finish();
        assert_eq!(form(&provider), expected, "{content:?}");
        assert!(provider.warnings().is_empty());
    }
    let path = files.write("token", "abc\n");
    let provider = built(&[ENDPOINT, ("bearer_token_file", &path)]);
    assert_eq!(authorization(&provider).as_deref(), Some("Bearer abc"));
}

#[test]
fn a_file_that_holds_no_secret_is_refused_by_name_and_not_quoted() {
    let files = Files::new();
    let large = vec![b'x'; (64 << 10) + 1];
    for (content, why) in [
        (&b""[..], "is empty"),
        (b"\n", "is empty"),
        (b"\r\n", "is empty"),
        (b"s-SECRET\n\n", "control character"),
        (b"s-SECRET\nx", "control character"),
        (b"\0", "control character"),
        (b"s-SECRET\r", "control character"),
        (b"\xffs-SECRET", "is not text"),
        (&large, "is larger than 65536 bytes"),
    ] {
        let path = files.write("secret", content);
        let message = refused(&[ENDPOINT, ID, ("client_secret_file", &path)]);
        assert!(
            message.starts_with(&format!(
                "provider \"main\": client_secret_file \"{path}\" "
            )),
            "{message}"
        );
        assert!(message.contains(why), "{message}");
        assert!(!message.contains("SECRET"), "{message}");
    }
    let path = files.write("token", "not a SECRET");
    let message = refused(&[ENDPOINT, ("bearer_token_file", &path)]);
    assert!(
        message.contains("is not a bearer token") && !message.contains("SECRET"),
        "{message}"
    );
}

#[test]
fn a_private_key_that_cannot_be_used_is_refused_by_name_and_not_quoted() {
    let files = Files::new();
    for content in [
        "SECRET",
        "-----BEGIN PRIVATE KEY-----\nSECRETSECRET\n-----END PRIVATE KEY-----\n",
        CERTIFICATE,
    ] {
        let path = files.write("key.pem", content);
        let message = refused(&[ENDPOINT, ID, ("private_key", &path)]);
        let start =
            format!("provider \"main\": private_key \"{path}\" holds no key that can be used: ");
        assert!(message.starts_with(&start), "{message}");
        assert!(!message.contains("SECRET"), "{message}");
    }
    assert!(set("private_key_alg", "HS256").contains("is not one of the choices: write ES256"));
}

#[test]
fn a_file_that_cannot_be_read_is_refused_with_the_reason() {
    let files = Files::new();
    let missing = files.0.path().join("missing").to_str().unwrap().to_owned();
    let directory = files.0.path().to_str().unwrap().to_owned();
    for (settings, key) in [
        (vec![ENDPOINT, ID], "client_secret_file"),
        (vec![ENDPOINT], "bearer_token_file"),
        (vec![ENDPOINT, ID], "private_key"),
        (vec![ENDPOINT], "ssl_trusted_certificate"),
        (
            vec![ENDPOINT, ("ssl_certificate_key", "/x")],
            "ssl_certificate",
        ),
    ] {
        for (path, reason) in [
            (&missing, "No such file or directory"),
            (&directory, "Is a directory"),
        ] {
            let message = refused(&[&settings[..], &[(key, path)]].concat());
            assert!(
                message.starts_with(&format!(
                    "provider \"main\": {key} \"{path}\" cannot be read: {reason}"
                )),
                "{message}"
            );
        }
    }
}

#[test]
fn a_secret_file_that_everybody_may_read_is_warned_about() {
    let files = Files::new();
    let path = files.write("secret", "s");
    for (mode, warned) in [(0o600, 0), (0o640, 0), (0o644, 1), (0o604, 1)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let provider = built(&[ENDPOINT, ID, ("client_secret_file", &path)]);
        assert_eq!(provider.warnings().len(), warned, "{mode:o}");
        for warning in provider.warnings() {
            assert!(
                warning.contains("client_secret_file") && warning.contains(&path),
                "{warning}"
            );
        }
    }
}

/// The certificate of a fictitious certificate authority, valid until 2126.
const CERTIFICATE: &str = include_str!("test_certificate.pem");

#[test]
fn trusted_certificates_must_be_certificates() {
    let files = Files::new();
    for content in [
        CERTIFICATE.to_owned(),
        format!("# a comment\n{CERTIFICATE}\n{CERTIFICATE}"),
    ] {
        let path = files.write("ca.pem", &content);
        let provider = built(&[ENDPOINT, ("ssl_trusted_certificate", &path)]);
        assert_eq!(
            provider.trusted_certificates.as_deref(),
            Some(content.as_bytes())
        );
        assert!(provider.warnings().is_empty());
    }
    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    for (content, why) in [
        ("", "holds no certificate"),
        ("hello", "holds no certificate"),
        (key, "holds no certificate"),
        (garbage, "holds a certificate that cannot be used"),
        (&CERTIFICATE[..CERTIFICATE.len() / 2], "certificate"),
        (
            &format!("{CERTIFICATE}{garbage}"),
            "holds a certificate that cannot be used",
        ),
        (
            "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n",
            "holds a certificate that cannot be used",
        ),
    ] {
        let path = files.write("bad.pem", content);
        let message = refused(&[ENDPOINT, ("ssl_trusted_certificate", &path)]);
        assert!(
            message.starts_with(&format!(
                "provider \"main\": ssl_trusted_certificate \"{path}\" "
            )),
            "{message}"
        );
        assert!(message.contains(why), "{message}");
    }
}

#[test]
fn trusted_certificates_for_an_http_endpoint_are_refused() {
    let files = Files::new();
    let path = files.write("ca.pem", CERTIFICATE);
    let message = refused(&[
        ("introspection_endpoint", "http://127.0.0.1/"),
        ("ssl_trusted_certificate", &path),
    ]);
    assert!(
        message.contains("while introspection_endpoint is http"),
        "{message}"
    );
}

#[test]
fn what_is_allowed_but_dangerous_is_warned_about() {
    let warnings = |settings: &[(&str, &str)]| built(settings).warnings().join("\n");
    for url in [
        "http://as.example.com/",
        "http://192.0.2.1/",
        "http://localhost.example.com/",
        "http://[2001:db8::1]/",
    ] {
        let text = warnings(&[("introspection_endpoint", url)]);
        assert!(
            text.starts_with("provider \"main\": introspection_endpoint is http on another host"),
            "{url}: {text}"
        );
    }
    for url in [
        "http://127.0.0.1/",
        "http://127.9.9.9/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://localhost/",
        "http://LOCALHOST./",
        "http://as.localhost/",
    ] {
        assert_eq!(warnings(&[("introspection_endpoint", url)]), "", "{url}");
    }
    assert!(warnings(&[ENDPOINT, ("ssl_verify", "off")]).contains("ssl_verify is off"));
    assert!(warnings(&[ENDPOINT, ID, ("bearer_token", "t")]).contains("client_id is not sent"));
    assert!(
        warnings(&[ENDPOINT, ("dialect", "jwt"), ("jwt_claim", "x")])
            .contains("jwt_claim is of no use")
    );
}

#[test]
fn secrets_appear_in_no_debug_output_and_no_refusal() {
    let endpoint = (
        "introspection_endpoint",
        "https://as.example.com/?key=SECRET",
    );
    let basic = config(&[endpoint, ID, SECRET]);
    let bearer = config(&[endpoint, ("bearer_token", "SECRET")]);
    let proxied = config(&[
        endpoint,
        ("proxy", "https://SECRET:SECRET@proxy.example.com"),
    ]);
    assert!(format!("{proxied:?}").contains("proxy: Some(\"https://proxy.example.com\")"));
    let mut wrong = config(&[endpoint]);
    let refused = wrong.set("proxy", "http://proxy/SECRET").unwrap_err();
    assert!(!refused.to_string().contains("SECRET"));
    assert!(!format!("{wrong:?}").contains("SECRET"));
    for config in [basic, bearer, proxied] {
        let provider = config.build().unwrap();
        let encoded = STANDARD.encode("gateway:hunter2-SECRET");
        let text = format!(
            "{config:?} {config:#?} {provider:?} {}",
            provider.place(&provider.server.introspection[0])
        );
        assert!(
            !text.contains("SECRET") && !text.contains(&encoded),
            "{text}"
        );
        assert!(text.contains("as.example.com"));
    }
    for (key, value) in [
        ("proxy", "http://user:SECRET@proxy:port/"),
        ("proxy", "http://user:SECRET@proxy/path"),
        ("proxy", "socks5://user:SECRET@proxy"),
        ("client_secret", "SECRET\n"),
        ("bearer_token", "SECRET\u{e9}"),
    ] {
        assert!(!set(key, value).contains("SECRET"));
    }
}

#[test]
fn an_authorization_server_may_have_several_addresses() {
    let provider = built(&[(
        "introspection_endpoint",
        "https://a.example.com/x https://b.example.com/x",
    )]);
    let hosts: Vec<_> = provider
        .server
        .introspection
        .iter()
        .map(|endpoint| endpoint.url.host_str())
        .collect();
    assert_eq!(hosts, [Some("a.example.com"), Some("b.example.com")]);
    let turned = built(&[(
        "introspection_endpoint",
        "https://b.example.com/x https://a.example.com/x",
    )]);
    assert!(turned.fingerprint == provider.fingerprint);

    for (value, message) in [
        (
            "https://a.example.com/ ftp://b.example.com/",
            "introspection_endpoint is a list, separated by spaces, whose URL number 2 is not an http",
        ),
        (
            "https://a.example.com/ https://A.example.com/",
            "introspection_endpoint is a list whose URL number 2 stands in it already: remove it",
        ),
    ] {
        let error = Config::new("main")
            .set("introspection_endpoint", value)
            .unwrap_err();
        assert!(error.to_string().contains(message), "{error}");
    }
}

#[test]
fn an_endpoint_may_be_at_a_unix_socket() {
    let provider = built(&[(
        "introspection_endpoint",
        "unix:/run/as/as.sock:/introspect?tenant=x https://as.example.com/introspect HTTP://unix:/run/b.sock:/",
    )]);
    let endpoints: Vec<_> = provider
        .server
        .introspection
        .iter()
        .map(|endpoint| (endpoint.socket.clone(), endpoint.url.as_str()))
        .collect();
    assert_eq!(
        endpoints,
        [
            (
                Some(PathBuf::from("/run/as/as.sock")),
                "http://localhost/introspect?tenant=x"
            ),
            (None, "https://as.example.com/introspect"),
            (Some(PathBuf::from("/run/b.sock")), "http://localhost/"),
        ]
    );
    assert_eq!(
        provider.place(&provider.server.introspection[0]),
        "provider \"main\": introspection at unix:/run/as/as.sock:/introspect"
    );
    assert!(provider.warnings().is_empty());

    let long = format!("unix:/{}:/introspect", "x".repeat(107));
    for (value, why) in [
        ("unix:", "has no absolute path of a socket"),
        (
            "unix:run/as.sock:/introspect",
            "has no absolute path of a socket",
        ),
        ("unix::/introspect", "has no absolute path of a socket"),
        (
            "unix:@abstract:/introspect",
            "has no absolute path of a socket",
        ),
        (
            "unix:/run/as.sock",
            "does not say what to ask for at the socket",
        ),
        (
            "http://unix:/run/as.sock",
            "does not say what to ask for at the socket",
        ),
        ("unix:/run/as.sock:", "has no path after the socket"),
        (
            "unix:/run/as.sock:introspect",
            "has no path after the socket",
        ),
        (
            "unix:/run/as.sock:@evil.example/",
            "has no path after the socket",
        ),
        ("unix:/run/as.sock:/introspect#x", "has a fragment"),
        ("unix:/run/as.sock:/intro spect", "is a list"),
        (
            "unix:/run/as.sock:/intro\\spect",
            "has a space, a control character or a backslash",
        ),
        (
            "unix:/run/\0as.sock:/introspect",
            "has a path of a socket that",
        ),
        (
            "https://unix:/run/as.sock:/introspect",
            "is https over a Unix socket",
        ),
        (&long, "longer than the system allows"),
        (
            "unix:/run/as.sock:/ http://unix:/run/as.sock:/",
            "is a list whose URL number 2 stands in it already",
        ),
    ] {
        let message = set("introspection_endpoint", value);
        assert!(message.contains(why), "{value:?}: {message}");
    }
}

#[test]
fn tls_keys_want_an_endpoint_with_tls() {
    let files = Files::new();
    let pair = Pair::new(&files, "a");
    for endpoint in ["http://127.0.0.1/", "unix:/run/as.sock:/introspect"] {
        let endpoint = ("introspection_endpoint", endpoint);
        let message = refused(&[endpoint, ("ssl_name", "as.example.com")]);
        assert!(
            message.contains(
                "ssl_name \"as.example.com\" is set while introspection_endpoint is http"
            ),
            "{message}"
        );
        let message = refused(&[
            endpoint,
            ("ssl_certificate", &pair.certificate),
            ("ssl_certificate_key", &pair.key),
        ]);
        assert!(
            message.contains("is set while introspection_endpoint is http"),
            "{message}"
        );
    }
}

#[test]
fn only_host_names_are_names_for_tls() {
    for (name, sent) in [
        ("as.example.com", "as.example.com"),
        ("AS.Example.COM", "as.example.com"),
        ("localhost", "localhost"),
        ("bücher.example", "xn--bcher-kva.example"),
    ] {
        let provider = built(&[ENDPOINT, ("ssl_name", name)]);
        assert_eq!(provider.ssl_name.as_deref(), Some(sent));
    }
    for name in [
        "",
        " ",
        "$host",
        "as.example.com.",
        "as.example.com:443",
        "https://as.example.com",
        "a/b",
        "u@h",
        "a b",
        "::1",
        "[::1]",
        "127.1",
        "*.example.com",
        "a..b",
        "a\0",
    ] {
        let message = set("ssl_name", name);
        assert!(
            message.starts_with("provider \"main\": ssl_name "),
            "{name:?}: {message}"
        );
    }
}

/// A self-signed certificate and its key, in files.
struct Pair {
    certificate: String,
    key: String,
    certificate_pem: String,
    key_pem: String,
}

impl Pair {
    fn new(files: &Files, name: &str) -> Self {
        let made = rcgen::generate_simple_self_signed([format!("{name}.example.com")]).unwrap();
        let (certificate_pem, key_pem) = (made.cert.pem(), made.signing_key.serialize_pem());
        Pair {
            certificate: files.write(&format!("{name}.pem"), &certificate_pem),
            key: files.write(&format!("{name}.key"), &key_pem),
            certificate_pem,
            key_pem,
        }
    }
}

#[test]
fn a_certificate_is_a_way_to_authenticate_where_there_is_no_secret() {
    let files = Files::new();
    let pair = Pair::new(&files, "a");
    let certificate = [
        ENDPOINT,
        ID,
        ("ssl_certificate", &*pair.certificate),
        ("ssl_certificate_key", &*pair.key),
    ];
    let with = |more: &[(&str, &str)], supported: &str| {
        let supported = [supported.to_owned()];
        let provider = built(&[&certificate, more].concat());
        [None, Some(&supported[..])].map(|supported| provider.credentials.method(supported))
    };
    assert_eq!(
        with(&[], "self_signed_tls_client_auth"),
        [
            ClientAuth::TlsClientAuth,
            ClientAuth::SelfSignedTlsClientAuth
        ]
    );
    assert_eq!(
        with(&[SECRET], "tls_client_auth"),
        [ClientAuth::ClientSecretBasic, ClientAuth::TlsClientAuth]
    );
    let set = ("client_auth", "self_signed_tls_client_auth");
    let provider = built(&[&certificate[..], &[set]].concat());
    assert_eq!(sent(&provider), (None, "client_id=gateway".to_owned()));
}

#[test]
fn a_client_certificate_is_read_with_its_key() {
    let files = Files::new();
    let pair = Pair::new(&files, "a");
    let other = Pair::new(&files, "b");
    // Other allowed contents of the two files, and both in one file.
    let chain = files.write(
        "chain.pem",
        format!(
            "# ours\n{}\n{}",
            pair.certificate_pem, other.certificate_pem
        ),
    );
    let both = files.write(
        "both.pem",
        format!("{}{}", pair.certificate_pem, pair.key_pem),
    );
    for (certificate, key, certificates) in [
        (&pair.certificate, &pair.key, 1),
        (&chain, &pair.key, 2),
        (&both, &both, 1),
    ] {
        let provider = built(&[
            ENDPOINT,
            ("ssl_certificate", certificate),
            ("ssl_certificate_key", key),
        ]);
        assert!(provider.warnings().is_empty());
        let text =
            String::from_utf8(provider.client_certificate.as_ref().unwrap().to_vec()).unwrap();
        assert_eq!(text.matches("BEGIN CERTIFICATE").count(), certificates);
        assert_eq!(text.matches("BEGIN PRIVATE KEY").count(), 1);
        assert!(reqwest::Identity::from_pem(text.as_bytes()).is_ok());
        assert!(!format!("{provider:?}").contains("PRIVATE"));
        // The certificate is our only identity.
        assert!(provider.fingerprint != built(&[ENDPOINT]).fingerprint);
    }
    fs::set_permissions(&pair.key, fs::Permissions::from_mode(0o644)).unwrap();
    let provider = built(&[
        ENDPOINT,
        ("ssl_certificate", &pair.certificate),
        ("ssl_certificate_key", &pair.key),
    ]);
    assert!(
        provider.warnings()[0].contains("ssl_certificate_key"),
        "{:?}",
        provider.warnings()
    );
}

#[test]
fn a_client_certificate_that_cannot_be_used_is_refused() {
    let files = Files::new();
    let pair = Pair::new(&files, "a");
    let other = Pair::new(&files, "b");
    for (settings, expected) in [
        (
            ("ssl_certificate", &pair.certificate),
            "ssl_certificate_key is missing: ssl_certificate needs its private key",
        ),
        (
            ("ssl_certificate_key", &pair.key),
            "ssl_certificate is missing: ssl_certificate_key needs the certificate that it is for",
        ),
    ] {
        let message = refused(&[ENDPOINT, (settings.0, settings.1)]);
        assert_eq!(message, format!("provider \"main\": {expected}"));
    }
    let refused = |certificate: &str, key: &str| {
        let message = refused(&[
            ENDPOINT,
            ("ssl_certificate", certificate),
            ("ssl_certificate_key", key),
        ]);
        assert!(!message.contains("MII"), "{message}");
        message
    };
    let message = refused(&pair.certificate, &other.key);
    assert!(
        message.contains(&format!(
            "ssl_certificate_key \"{}\" is not the key of the first",
            other.key
        )),
        "{message}"
    );

    let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for (content, why) in [
        ("", "holds no certificate"),
        (&*pair.key_pem, "holds no certificate"),
        (garbage, "holds a certificate that cannot be used"),
        (&pair.certificate_pem[..200], "certificate"),
    ] {
        let message = refused(&files.write("bad.pem", content), &pair.key);
        assert!(
            message.starts_with("provider \"main\": ssl_certificate \""),
            "{message}"
        );
        assert!(message.contains(why), "{message}");
    }
    let two = format!("{}{}", pair.key_pem, other.key_pem);
    let encrypted = pair.key_pem.replace("PRIVATE", "ENCRYPTED PRIVATE");
    let headed = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMIIB\n-----END RSA PRIVATE KEY-----\n";
    let garbage = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    for (content, why) in [
        ("", "holds no private key"),
        (&*pair.certificate_pem, "holds no private key"),
        (&two, "holds several private keys"),
        (&encrypted, "is encrypted"),
        (headed, "is encrypted"),
        (garbage, "holds a key that cannot be used"),
        (&pair.key_pem[..100], "private key"),
    ] {
        let message = refused(&pair.certificate, &files.write("bad.key", content));
        assert!(
            message.starts_with("provider \"main\": ssl_certificate_key \""),
            "{message}"
        );
        assert!(message.contains(why), "{message}");
    }
}

#[test]
fn only_plain_http_urls_are_proxies() {
    for (url, shown) in [
        (
            "http://proxy.example.com:3128",
            "http://proxy.example.com:3128",
        ),
        ("HTTPS://Proxy.Example.com/", "https://proxy.example.com"),
        ("http://u:p@[::1]:8080/", "http://[::1]:8080"),
        ("http://u@192.0.2.1", "http://192.0.2.1"),
        ("http://dom%5Cuser:p%40ss%3Aw%2Frd@proxy", "http://proxy"),
    ] {
        let provider = built(&[ENDPOINT, ("proxy", url)]);
        assert_eq!(provider.proxy.as_ref().unwrap().shown, shown, "{url}");
    }
    for url in [
        "",
        "proxy",
        "proxy:3128",
        "//proxy",
        "socks5://proxy",
        "ftp://proxy",
        "http:proxy",
        "http:/proxy",
        "http://",
        "http:///x",
        "http://?x",
        "http://u:p@",
        "http://proxy/path",
        "http://proxy/?x",
        "http://proxy/#x",
        "http://proxy:0",
        "http://proxy:99999",
        "http://$proxy",
        " http://proxy",
        "http://pro xy",
        "http://a\\b@proxy",
        "http://proxy\n",
    ] {
        let message = set("proxy", url);
        assert!(
            message.starts_with("provider \"main\": proxy "),
            "{url:?}: {message}"
        );
    }
}

#[test]
fn a_proxy_that_is_of_no_use_or_listens_in_is_warned_about() {
    let warnings = |endpoint: &str, proxy: &str| {
        built(&[("introspection_endpoint", endpoint), ("proxy", proxy)])
            .warnings()
            .join("\n")
    };
    let (near, far) = ("http://u:p@localhost:3128", "http://u:p@proxy.example.com");
    assert_eq!(warnings(ENDPOINT.1, near), "");
    assert_eq!(warnings(ENDPOINT.1, "http://proxy.example.com"), "");
    assert_eq!(warnings(ENDPOINT.1, "https://u:p@proxy.example.com"), "");
    assert_eq!(warnings("http://127.0.0.1/", near), "");
    assert!(warnings(ENDPOINT.1, far).contains("the user and the password in it travel in clear"));
    assert!(warnings("http://127.0.0.1/", far).contains("which reads access tokens"));
    assert!(warnings("unix:/run/as.sock:/x", near).contains("proxy is of no use"));

    let message = refused(&[ENDPOINT, ("proxy", near), ("ssl_name", "as.example.com")]);
    assert!(
        message.starts_with("provider \"main\": proxy and ssl_name are both set"),
        "{message}"
    );
}

/// Settings. Those of a key under test come last: the last value of a key counts.
type Settings<'a> = Vec<(&'a str, &'a str)>;

/// Pairs of settings that differ in one key, and that key.
fn pairs_that_differ<'a>(files: &'a Paths) -> Vec<(&'static str, Settings<'a>, Settings<'a>)> {
    let secret = [ENDPOINT, ID, SECRET].to_vec();
    let mint = [
        ENDPOINT,
        ("dialect", "mint"),
        ("mint_key", &files.rsa),
        ("mint_issuer", "g"),
    ]
    .to_vec();
    let exchange = [
        ENDPOINT,
        ("dialect", "exchange"),
        ("token_endpoint", "https://as.example.com/t"),
    ]
    .to_vec();
    let signed = [
        ENDPOINT,
        ISSUER,
        ("dialect", "signed"),
        ("client_id", "gateway"),
        ("client_auth", "none"),
        ("forward", "signed"),
    ]
    .to_vec();
    let verify = [ENDPOINT, ISSUER, ("verify", "on")].to_vec();
    let grant = [
        ENDPOINT,
        ID,
        SECRET,
        ("client_auth", "client_credentials"),
        ("token_endpoint", "https://as.example.com/t"),
    ]
    .to_vec();
    let assertion = [ENDPOINT, ID, ("private_key", &*files.rsa)].to_vec();
    let bearer = [ENDPOINT, ("bearer_token", "one")].to_vec();
    let bearer_file = [ENDPOINT, ("bearer_token_file", &*files.bearer)].to_vec();
    let shown = [
        ENDPOINT,
        ("ssl_certificate", &*files.one.certificate),
        ("ssl_certificate_key", &*files.one.key),
    ]
    .to_vec();
    let known = [&shown[..], &[ID, ("client_auth", "tls_client_auth")]].concat();
    let other_pair = [
        ("ssl_certificate", &*files.two.certificate),
        ("ssl_certificate_key", &*files.two.key),
    ];
    let proxied = [ENDPOINT, ("proxy", "http://one:secret@localhost:3128")].to_vec();
    let plain = [ENDPOINT].to_vec();
    let with = |base: &Settings<'a>, more: &[(&'static str, &'a str)]| -> Settings<'a> {
        [&base[..], more].concat()
    };
    let mut pairs = Vec::new();
    let mut add = |key: &'static str, base: &Settings<'a>, more: &[(&'static str, &'a str)]| {
        pairs.push((key, base.clone(), with(base, more)));
    };
    for (key, base, value) in [
        ("issuer", &plain, ISSUER.1),
        ("issuer", &verify, "https://other.example.com"),
        ("token_endpoint", &exchange, "https://as.example.com/u"),
        ("token_endpoint", &grant, "https://as.example.com/u"),
        ("jwks_uri", &verify, "https://as.example.com/jwks"),
        ("jwks_uri", &signed, "https://as.example.com/jwks"),
        (
            "introspection_endpoint",
            &secret,
            "https://as.example.com/introspect/",
        ),
        (
            "introspection_endpoint",
            &secret,
            "https://as.example.com/introspect?a",
        ),
        (
            "introspection_endpoint",
            &secret,
            "http://as.example.com/introspect",
        ),
        (
            "introspection_endpoint",
            &secret,
            "http://localhost/introspect",
        ),
        (
            "introspection_endpoint",
            &secret,
            "unix:/run/a.sock:/introspect",
        ),
        (
            "introspection_endpoint",
            &secret,
            "unix:/run/b.sock:/introspect",
        ),
        ("client_id", &secret, "other"),
        ("client_id", &signed, "other"),
        ("client_auth", &secret, "client_secret_post"),
        ("client_credentials_scope", &grant, "introspect"),
        ("bearer_token", &bearer, "two"),
        ("bearer_token_file", &bearer_file, &files.other_bearer),
        ("dialect", &secret, "json"),
        ("dialect", &secret, "jwt"),
        ("jwt_claim", &secret, "jwt"),
        ("jwt_claim", &secret, "phantom_token jwt"),
        ("jwt_claim", &secret, "jwtphantom_token"),
        ("verify", &plain, "on"),
        ("verify_audience", &verify, "a"),
        ("token_type", &mint, "any"),
        ("exchange_introspect", &exchange, "off"),
        ("mint_key", &mint, &files.ec),
        ("mint_alg", &mint, "PS256"),
        ("mint_issuer", &mint, "h"),
        ("mint_ttl", &mint, "10m"),
        ("mint_claims", &mint, "sub"),
        ("mint_claims_except", &mint, "sub"),
        ("exchange_audience", &exchange, "a"),
        ("exchange_audience", &exchange, "a b"),
        ("exchange_resource", &exchange, "urn:a"),
        ("exchange_scope", &exchange, "a"),
        ("exchange_token_type", &exchange, "access_token"),
        ("ssl_trusted_certificate", &plain, &files.one.certificate),
        ("ssl_trusted_certificate", &plain, &files.two.certificate),
        ("ssl_trusted_certificate", &plain, &files.both),
        ("ssl_verify", &plain, "off"),
        ("ssl_name", &plain, "one.example.com"),
        ("ssl_name", &plain, "two.example.com"),
        ("proxy", &plain, "http://localhost:3128"),
        ("proxy", &proxied, "http://localhost:3128"),
        ("proxy", &proxied, "http://two:secret@localhost:3128"),
        ("proxy", &proxied, "http://one:secret@localhost:3129"),
        ("proxy", &proxied, "https://one:secret@localhost:3128"),
    ] {
        let more = if key == "verify" {
            vec![ISSUER]
        } else {
            vec![]
        };
        add(key, &with(base, &more), &[(key, value)]);
    }
    add(
        "forward",
        &signed,
        &[
            ("forward", "mint"),
            ("mint_key", &files.rsa),
            ("mint_issuer", "g"),
        ],
    );
    add("ssl_certificate", &shown, &other_pair);
    add(
        "ssl_certificate",
        &with(&shown, &[("bearer_token", "one")]),
        &other_pair,
    );
    for (key, base, more) in [
        ("client_secret", &secret, vec![("client_secret", "rotated")]),
        (
            "client_secret_file",
            &with(&plain, &[ID, ("client_secret_file", &files.bearer)]),
            vec![("client_secret_file", &*files.other_bearer)],
        ),
        ("private_key", &assertion, vec![("private_key", &*files.ec)]),
        ("private_key_id", &assertion, vec![("private_key_id", "k")]),
        (
            "private_key_alg",
            &assertion,
            vec![("private_key_alg", "PS256")],
        ),
        (
            "assertion_audience",
            &assertion,
            vec![("assertion_audience", "x")],
        ),
        // With a client identifier the certificate may be renewed.
        ("ssl_certificate_key", &known, other_pair.to_vec()),
        ("ssl_protocols", &plain, vec![("ssl_protocols", "TLSv1.2")]),
        ("timeout", &plain, vec![("timeout", "30s")]),
        ("connect_timeout", &plain, vec![("connect_timeout", "1s")]),
        ("retries", &plain, vec![("retries", "0")]),
        ("max_concurrent", &plain, vec![("max_concurrent", "1")]),
        ("max_waiting", &plain, vec![("max_waiting", "1")]),
        ("max_fails", &plain, vec![("max_fails", "1")]),
        ("fail_timeout", &plain, vec![("fail_timeout", "3s")]),
        (
            "max_response_size",
            &plain,
            vec![("max_response_size", "1m")],
        ),
        ("cache_size", &plain, vec![("cache_size", "1m")]),
        ("cache_entries", &plain, vec![("cache_entries", "1")]),
        ("cache_ttl", &plain, vec![("cache_ttl", "1s")]),
        (
            "cache_inactive_ttl",
            &plain,
            vec![("cache_inactive_ttl", "1s")],
        ),
        ("cache_control", &plain, vec![("cache_control", "ignore")]),
        ("refresh_ahead", &plain, vec![("refresh_ahead", "10")]),
        ("stale_if_error", &plain, vec![("stale_if_error", "1s")]),
    ] {
        add(key, base, &more);
    }
    pairs
}

/// Files for [`pairs_that_differ`].
struct Paths {
    rsa: String,
    ec: String,
    bearer: String,
    other_bearer: String,
    one: Pair,
    two: Pair,
    both: String,
}

impl Paths {
    fn new(files: &Files) -> Self {
        let [one, two] = ["one", "two"].map(|name| Pair::new(files, name));
        let both = [&*one.certificate_pem, &two.certificate_pem].concat();
        Paths {
            rsa: key(files, "rsa.pem", Algorithm::RS256),
            ec: key(files, "ec.pem", Algorithm::ES256),
            bearer: files.write("bearer", "first\n"),
            other_bearer: files.write("other_bearer", "second\n"),
            both: files.write("both.pem", both),
            one,
            two,
        }
    }
}

/// Each setting that can change an answer or its origin is in the fingerprint: each key of the table is, or stands on
/// the list of exceptions.
#[test]
fn each_key_changes_the_fingerprint_or_is_on_the_list_of_those_that_need_not() {
    let files = Files::new();
    let paths = Paths::new(&files);
    let pairs = pairs_that_differ(&paths);
    for setting in Config::settings() {
        let key = &setting.name();
        let listed = match setting.fingerprint() {
            FingerprintPart::Part => None,
            FingerprintPart::Left(reason) => Some(reason).filter(|reason| !reason.is_empty()),
        };
        let tried: Vec<_> = pairs.iter().filter(|(of, ..)| of == key).collect();
        assert!(
            !tried.is_empty(),
            "{key}: try out whether it changes the fingerprint"
        );
        for (_, one, other) in tried {
            let same = built(one).fingerprint == built(other).fingerprint;
            assert_eq!(same, listed.is_some(), "{key}: {one:?} {other:?}");
        }
    }
    // No two of the fingerprints are equal.
    let mut all: Vec<(BTreeMap<&str, &str>, [u8; 32])> = Vec::new();
    for settings in pairs.iter().flat_map(|(_, one, other)| [one, other]) {
        let set: BTreeMap<_, _> = settings.iter().copied().collect();
        let left_out = Config::settings().iter().any(|setting| {
            setting.fingerprint() != FingerprintPart::Part && set.contains_key(setting.name())
        });
        if left_out || all.iter().any(|(known, _)| *known == set) {
            continue;
        }
        let fingerprint = built(settings).fingerprint.0;
        let alike = all.iter().find(|(_, known)| *known == fingerprint);
        assert!(alike.is_none(), "{set:?} {alike:?}");
        all.push((set, fingerprint));
    }
}

#[test]
fn what_a_file_holds_is_in_the_fingerprint_and_not_where_it_is() {
    let files = Files::new();
    let of = |key, path: &str| built(&[ENDPOINT, (key, path)]).fingerprint.0;
    let [one, two] = ["one", "two"].map(|name| Pair::new(&files, name));
    let (one, two) = (one.certificate_pem, two.certificate_pem);
    let bundle = files.write("ca.pem", [&*one, &two].concat());
    let before = of("ssl_trusted_certificate", &bundle);
    let elsewhere = files.write("turned.pem", ["# ours\n", &two, &one, &two].concat());
    assert!(before == of("ssl_trusted_certificate", &elsewhere));
    files.write("ca.pem", one);
    assert!(before != of("ssl_trusted_certificate", &bundle));

    let token = files.write("token", "first\n");
    let before = of("bearer_token_file", &token);
    assert!(before == of("bearer_token", "first"));
    assert!(before == of("bearer_token_file", &files.write("elsewhere", "first")));
    files.write("token", "second\n");
    assert!(before != of("bearer_token_file", &token));

    let proxy = |proxy| built(&[ENDPOINT, ("proxy", proxy)]).fingerprint.0;
    assert!(proxy("http://a:one@localhost:3128") == proxy("http://a:two@localhost:3128"));
}

const ISSUER: (&str, &str) = ("issuer", "https://as.example.com");

/// A private key, made by OpenSSL.
fn key(files: &Files, name: &str, algorithm: Algorithm) -> String {
    files.write(name, pem("PRIVATE KEY", &pkcs8(algorithm)))
}

#[test]
fn what_is_set_of_a_dialect_arrives() {
    let files = Files::new();
    let keys = [
        key(&files, "a.pem", Algorithm::RS256),
        key(&files, "b.pem", Algorithm::ES256),
    ];
    let provider = built(&[
        ENDPOINT,
        ("dialect", "mint"),
        ("mint_key", &keys.join("  ")),
        ("mint_alg", "PS384"),
        ("mint_issuer", "https://gateway.example.com"),
        ("mint_ttl", "2m"),
        ("mint_claims", "sub  scope"),
    ]);
    let minting = provider.acquisition.minting.as_ref().unwrap();
    assert_eq!(minting.keys.len(), 2);
    assert_eq!(minting.keys[0].algorithm(), Algorithm::PS384);
    assert_eq!(minting.keys[1].algorithm(), Algorithm::ES256);
    assert_eq!(minting.issuer, "https://gateway.example.com");
    assert_eq!(minting.ttl, Duration::from_secs(120));
    assert_eq!(
        minting.allow.as_deref(),
        Some(&["sub".to_owned(), "scope".to_owned()][..])
    );
    assert!(minting.deny.is_empty());
    let published = provider.jwks().unwrap();
    for key in &minting.keys {
        assert!(published.contains(key.kid()));
    }
    assert!(!published.contains("\"d\""));
    assert!(provider.warnings().is_empty(), "{:?}", provider.warnings());
    assert!(!provider.needs_keys());

    let provider = built(&[
        ("dialect", "exchange"),
        ("token_endpoint", "https://as.example.com/token"),
        ("exchange_audience", "a b"),
        ("exchange_resource", "https://api.example.com/ urn:x:y"),
        ("exchange_scope", " read  write "),
        ("exchange_token_type", "access_token"),
        ("verify", "on"),
        ("verify_audience", "a"),
        ISSUER,
    ]);
    let exchange = &provider.acquisition.exchange;
    assert_eq!(exchange.token_type, TokenType::AccessToken);
    assert_eq!(
        exchange.parameters,
        [
            ("audience", "a".to_owned()),
            ("audience", "b".to_owned()),
            ("resource", "https://api.example.com/".to_owned()),
            ("resource", "urn:x:y".to_owned()),
            ("scope", "read write".to_owned()),
        ]
    );
    assert!(provider.jwks().is_none());
    assert!(provider.needs_keys());
    let endpoints = provider.endpoints(&provider.server);
    assert_eq!(endpoints[0].purpose, Purpose::Token);
}

#[test]
fn what_a_dialect_needs_is_asked_for_and_what_it_does_not_use_is_refused() {
    let files = Files::new();
    let ec = key(&files, "ec.pem", Algorithm::ES256);
    let twice = format!("{ec} {ec}");
    let mint_key = ("mint_key", ec.as_str());
    let mint_issuer = ("mint_issuer", "https://gateway.example.com");
    let mint = [ENDPOINT, ("dialect", "mint"), mint_issuer];
    let signed = [ENDPOINT, ID, SECRET, ISSUER, ("dialect", "signed")];
    let cases: Vec<(Vec<(&str, &str)>, &str)> = vec![
        (mint.to_vec(), "mint_key is missing: dialect mint needs"),
        (
            vec![ENDPOINT, ("dialect", "mint"), mint_key],
            "mint_issuer is missing: dialect mint needs",
        ),
        (signed.to_vec(), "or set forward signed"),
        (
            vec![
                ENDPOINT,
                ID,
                SECRET,
                ("dialect", "signed"),
                ("forward", "signed"),
            ],
            "issuer or jwks_uri is missing",
        ),
        (
            vec![
                ENDPOINT,
                ID,
                SECRET,
                ("dialect", "signed"),
                ("forward", "signed"),
                ("jwks_uri", "https://as.example.com/jwks"),
            ],
            "issuer is missing: dialect signed needs it",
        ),
        (
            vec![
                ENDPOINT,
                ISSUER,
                ("dialect", "signed"),
                ("forward", "signed"),
            ],
            "client_id is missing: dialect signed needs it",
        ),
        (
            [&signed[..], &[("forward", "signed"), mint_key]].concat(),
            "mint_key is set but not used with forward signed: set forward mint, or remove it",
        ),
        (
            vec![ENDPOINT, mint_issuer],
            "mint_issuer is set but not used with dialect auto: set dialect mint, or remove it",
        ),
        (
            vec![ENDPOINT, ("mint_ttl", "1m")],
            "mint_ttl is set but not used",
        ),
        (
            vec![ENDPOINT, ("forward", "mint")],
            "forward is set but not used with dialect auto: set dialect signed",
        ),
        (
            vec![ENDPOINT, ("exchange_scope", "read")],
            "exchange_scope is set but not used with dialect auto: set dialect exchange",
        ),
        (
            vec![ENDPOINT, ("verify_audience", "api")],
            "verify_audience is set but not used with verify off: set verify on",
        ),
        (
            vec![ENDPOINT, ("verify", "on")],
            "verify on needs the authorization server's keys",
        ),
        (
            [&mint[..], &[mint_key, ("verify", "on")]].concat(),
            "verify on can't be used with dialect mint",
        ),
        (
            vec![ENDPOINT, ("token_type", "any")],
            "token_type is set but not used with dialect auto",
        ),
        (
            vec![ENDPOINT, ("exchange_introspect", "off")],
            "exchange_introspect is set but not used with dialect auto: set dialect exchange",
        ),
        (
            vec![
                ("dialect", "exchange"),
                ("token_endpoint", "https://as.example.com/token"),
            ],
            "introspection_endpoint is missing: dialect exchange introspects a token first",
        ),
        (
            [
                &mint[..],
                &[mint_key, ("mint_claims", "a"), ("mint_claims_except", "b")],
            ]
            .concat(),
            "mint_claims and mint_claims_except are both set",
        ),
        (
            [&mint[..], &[mint_key, ("mint_claims_except", "sub exp")]].concat(),
            "mint_claims_except \"exp\" names a claim that is the gateway's own",
        ),
        (
            [&mint[..], &[mint_key, ("mint_alg", "RS256")]].concat(),
            "mint_alg is set, but there is no RSA key",
        ),
        (
            [&mint[..], &[("mint_key", twice.as_str())]].concat(),
            "holds a key that is there already",
        ),
        (
            vec![("dialect", "exchange")],
            "token_endpoint is missing: set it to the URL",
        ),
    ];
    for (settings, expected) in cases {
        let message = refused(&settings);
        assert!(message.contains(expected), "{settings:?}: {message}");
    }
    for (key, value, expected) in [
        ("forward", "jwt", "write signed or mint"),
        ("verify", "yes", "write it as on or off"),
        (
            "mint_alg",
            "ES256",
            "is not one of the choices: write RS256",
        ),
        ("token_type", "Bearer", "write access_token or any"),
        ("exchange_introspect", "auto", "write it as on or off"),
        ("mint_ttl", "0", "it must be 1s to 1d"),
        ("mint_ttl", "2d", "it must be 1s to 1d"),
        ("mint_key", " ", "is empty"),
        ("mint_claims", "sub active", "names active"),
        ("exchange_resource", "api", "is not an absolute URI"),
        ("exchange_resource", "https://a/#x", "has a fragment"),
        (
            "exchange_token_type",
            "id_token",
            "write jwt or access_token",
        ),
    ] {
        let message = set(key, value);
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn a_mint_key_that_cannot_be_used_is_refused_by_name_and_not_quoted() {
    let files = Files::new();
    let mint = [
        ENDPOINT,
        ("dialect", "mint"),
        ("mint_issuer", "https://gateway.example.com"),
    ];
    for content in [
        "",
        "SECRET",
        "-----BEGIN PRIVATE KEY-----\nSECRET\n-----END PRIVATE KEY-----\n",
    ] {
        let path = files.write("bad.pem", content);
        let message = refused(&[&mint[..], &[("mint_key", &path)]].concat());
        assert!(
            message.contains("mint_key \"") && message.contains("bad.pem"),
            "{message}"
        );
        assert!(!message.contains("SECRET"), "{message}");
    }
    let message = refused(&[&mint[..], &[("mint_key", "/nowhere/key.pem")]].concat());
    assert!(message.contains("cannot be read"), "{message}");
    let path = key(&files, "open.pem", Algorithm::ES256);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let provider = built(&[&mint[..], &[("mint_key", &path)]].concat());
    assert!(
        provider.warnings()[0].contains("chmod o-r"),
        "{:?}",
        provider.warnings()
    );
}

#[test]
fn minting_that_is_allowed_but_unwise_is_warned_about() {
    let files = Files::new();
    let path = key(&files, "key.pem", Algorithm::ES256);
    let warned = |settings: &[(&str, &str)]| {
        let mint = [
            ENDPOINT,
            ("dialect", "mint"),
            ("mint_key", &path),
            ("mint_issuer", ISSUER.1),
        ];
        built(&[&mint[..], settings].concat()).warnings().join("\n")
    };
    assert_eq!(warned(&[]), "");
    assert!(warned(&[ISSUER]).contains("a name of its own"));
    assert!(warned(&[("mint_ttl", "30s")]).contains("mint_ttl is shorter"));
    assert!(warned(&[("stale_if_error", "1h")]).contains("mint_ttl is shorter"));
    assert!(warned(&[("jwt_claim", "jwt")]).contains("of no use with dialect mint"));
}

#[test]
fn two_authorization_servers_do_not_share_a_mint_issuer() {
    let files = Files::new();
    let [one, two] = ["one.pem", "two.pem"].map(|name| key(&files, name, Algorithm::ES256));
    let minting = |key: &str, more: &[(&str, &str)]| {
        let base = [
            ("dialect", "mint"),
            ("mint_key", key),
            ("mint_issuer", "https://gateway.example.com"),
        ];
        built(&[&base[..], more].concat())
    };
    let at = |url| ("introspection_endpoint", url);
    let (a, b) = (at("https://a.example.com/i"), at("https://b.example.com/i"));
    let (of_a, of_b) = (("issuer", "https://a"), ("issuer", "https://b"));
    let apart = |one: &Provider, other: &Provider| {
        let said = one.blends_with(other);
        assert_eq!(said.is_some(), other.blends_with(one).is_some());
        said
    };

    // A different key does not make it a different issuer name.
    for (one, other) in [
        (minting(&one, &[a]), minting(&one, &[b])),
        (minting(&one, &[a]), minting(&two, &[b])),
        (minting(&one, &[of_a]), minting(&one, &[of_b])),
        // A proxy in front of both.
        (minting(&one, &[a, of_a]), minting(&one, &[a, of_b])),
        // It is not known that the servers are the same.
        (minting(&one, &[a]), minting(&one, &[of_a])),
    ] {
        let message = apart(&one, &other).unwrap();
        assert!(
            message.contains("give each its own mint_issuer"),
            "{message}"
        );
    }
    let client = [("client_id", "other"), ("client_auth", "none")];
    for (one, other) in [
        (
            minting(&one, &[a]),
            minting(&two, &[&[a][..], &client].concat()),
        ),
        (minting(&one, &[of_a]), minting(&one, &[a, of_a])),
        (minting(&one, &[a, of_a]), minting(&one, &[a])),
        (
            minting(&one, &[a]),
            minting(&one, &[b, ("mint_issuer", "https://other.example.com")]),
        ),
        (minting(&one, &[a]), built(&[b])),
    ] {
        assert_eq!(apart(&one, &other), None);
    }
}

#[test]
fn the_fingerprint_changes_with_what_is_minted_verified_and_exchanged() {
    let files = Files::new();
    let [one, two] = ["one.pem", "two.pem"].map(|name| key(&files, name, Algorithm::ES256));
    let rsa = key(&files, "rsa.pem", Algorithm::RS256);
    let of = |settings: &[(&str, &str)]| built(settings).fingerprint.0;
    let minting = |keys: &str, more: &[(&str, &str)]| {
        let base = [
            ENDPOINT,
            ("dialect", "mint"),
            ("mint_key", keys),
            ("mint_issuer", "g"),
        ];
        // The last value of a key counts.
        of(&[&base[..], more].concat())
    };
    let exchanging = |more: &[(&str, &str)]| {
        let base = [
            ("dialect", "exchange"),
            ("token_endpoint", "https://as.example.com/t"),
            ISSUER,
        ];
        of(&[&base[..], more].concat())
    };
    let verifying = |more: &[(&str, &str)]| of(&[&[ENDPOINT, ISSUER][..], more].concat());
    let same = minting(&one, &[]);
    assert!(
        same == minting(&format!("{one} {two}"), &[]),
        "it signs as before"
    );
    let all = [
        same,
        minting(&two, &[]),
        minting(&format!("{two} {one}"), &[("mint_claims", "sub")]),
        minting(&one, &[("mint_issuer", "h")]),
        minting(&one, &[("mint_ttl", "10m")]),
        minting(&one, &[("mint_claims", "sub")]),
        minting(&one, &[("mint_claims_except", "sub")]),
        minting(&one, &[("token_type", "any")]),
        minting(&one, &[("verify_audience", "a")]),
        minting(&one, &[("verify_audience", "b")]),
        minting(&rsa, &[]),
        minting(&rsa, &[("mint_alg", "PS256")]),
        exchanging(&[]),
        exchanging(&[("token_endpoint", "https://as.example.com/u")]),
        exchanging(&[("exchange_audience", "a")]),
        exchanging(&[("exchange_audience", "a b")]),
        exchanging(&[("exchange_resource", "urn:a")]),
        exchanging(&[("exchange_scope", "a")]),
        exchanging(&[("exchange_token_type", "access_token")]),
        exchanging(&[("exchange_introspect", "on")]),
        exchanging(&[("exchange_introspect", "off")]),
        exchanging(&[("verify", "on")]),
        verifying(&[]),
        verifying(&[("verify", "on")]),
        verifying(&[("verify", "on"), ("verify_audience", "a")]),
        verifying(&[
            ("verify", "on"),
            ("jwks_uri", "https://as.example.com/jwks"),
        ]),
    ];
    for (index, fingerprint) in all.iter().enumerate() {
        assert!(!all[..index].contains(fingerprint), "number {index}");
    }
}

proptest! {
    #[test]
    fn no_setting_makes_it_panic_and_what_is_set_is_never_refused_for_itself(
        key in proptest::sample::select(Config::keys()), value in "\\PC{0,20}|[a-z0-9:/@?#.]{0,30}|\\p{Cc}",
    ) {
        let mut config = config(&[ENDPOINT]);
        match config.set(key, &value) {
            Ok(()) => prop_assert!(settings::check(&config).is_ok()),
            Err(error) => prop_assert!(!error.to_string().chars().any(char::is_control)),
        }
    }

    #[test]
    fn every_url_that_is_taken_leads_to_the_host_that_is_read_in_it(text in "https?:/{0,3}[a-z@:?#/\\\\.\\[\\]0-9%]{0,24}") {
        if let Ok(url) = url::endpoint(&text) {
            let host = url.host_str().unwrap();
            let after = text.split_once("://").unwrap().1;
            prop_assert!(!host.is_empty());
            prop_assert!(!url.as_str().contains('#') && url.username().is_empty());
            if host.bytes().all(|byte| byte.is_ascii_lowercase()) {
                prop_assert!(after.starts_with(host), "{} in {}", host, text);
            }
        }
    }
}
