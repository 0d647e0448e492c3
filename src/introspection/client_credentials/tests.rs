use std::sync::Arc;

use http::header::{CONTENT_ENCODING, RETRY_AFTER};
use http::{HeaderMap, HeaderValue};

use super::*;
use crate::Config;

const NOW: i64 = 1_700_000_000;

fn provider(settings: &[(&str, &str)]) -> Arc<Provider> {
    let mut config = Config::new("main");
    for (key, value) in [
        (
            "introspection_endpoint",
            "https://as.example.com/introspect",
        ),
        (
            "token_endpoint",
            "https://as.example.com/token?key=QUERY-SECRET",
        ),
        ("client_id", "gateway"),
        ("client_secret", "s&x"),
        ("client_auth", "client_credentials"),
    ] {
        config.set(key, value).unwrap();
    }
    for (key, value) in settings {
        config.set(key, value).unwrap();
    }
    config.build().unwrap()
}

fn answer_with(status: u16, headers: &HeaderMap, body: &str) -> Result<Granted, Error> {
    let provider = provider(&[]);
    let endpoint = provider.server.token.as_ref().unwrap();
    let method = ClientAuth::ClientSecretBasic;
    read(
        &provider,
        endpoint,
        method,
        (status, headers, body.as_bytes()),
        NOW,
    )
}

fn answer(status: u16, body: &str) -> Result<Granted, Error> {
    answer_with(status, &HeaderMap::new(), body)
}

fn refused(status: u16, body: &str) -> Error {
    let Err(error) = answer(status, body) else {
        panic!("granted: {status} {body}");
    };
    let message = error.message();
    assert!(
        message.starts_with(
            "provider \"main\": token endpoint at https://as.example.com/token: no access token for client_auth \
             client_credentials: "
        ),
        "{message}"
    );
    assert!(!message.contains("SECRET"), "{message}");
    error
}

#[test]
fn the_form_asks_for_a_token_of_our_own_with_the_method_that_fits() {
    let of = |settings: &[(&str, &str)], methods: Option<&str>| {
        let provider = provider(settings);
        let server = Server {
            token_auth_methods: methods.map(|method| vec![method.to_owned()]),
            ..provider.server.clone()
        };
        let endpoint = server.token.as_ref().unwrap();
        let request = request(&provider, &server, endpoint, NOW).unwrap();
        let body = String::from_utf8(request.body.to_vec()).unwrap();
        (request.client_auth, request.headers.len(), body)
    };
    assert_eq!(
        of(&[], None),
        (
            ClientAuth::ClientSecretBasic,
            3,
            "grant_type=client_credentials".to_owned()
        )
    );
    assert_eq!(
        of(
            &[("client_credentials_scope", "introspect a")],
            Some("client_secret_post")
        ),
        (
            ClientAuth::ClientSecretPost,
            2,
            "grant_type=client_credentials&scope=introspect+a&client_id=gateway&client_secret=s%26x".to_owned()
        )
    );
}

#[test]
fn a_token_is_read_with_the_time_that_it_is_good_for() {
    for (expires_in, lifetime) in [
        (r#","expires_in":3600"#, 3600),
        (r#","expires_in":"3600""#, 3600),
        (r#","expires_in":0"#, 0),
        (r#","expires_in":99999999999"#, 86_400),
        (r#","expires_in":null"#, 300),
        ("", 300),
    ] {
        for kind in ["Bearer", "bearer"] {
            let body = format!(r#"{{"access_token":"a.b","token_type":"{kind}"{expires_in}}}"#);
            let granted = answer(200, &body).unwrap();
            assert_eq!(granted.token.expose(), "a.b");
            assert_eq!(granted.lifetime, lifetime, "{body}");
        }
    }
}

#[test]
fn what_is_no_bearer_token_is_refused() {
    for (body, why) in [
        ("", "not a JSON object"),
        ("[]", "not a JSON object"),
        (
            r#"{"access_token":"SECRET","access_token":"b"}"#,
            "unique names",
        ),
        (r#"{"access_token":"SECRET"}"#, "no token_type"),
        (
            r#"{"access_token":"SECRET","token_type":"DPoP"}"#,
            "not Bearer",
        ),
        (r#"{"token_type":"Bearer"}"#, "no access_token"),
        (
            r#"{"token_type":"Bearer","access_token":7}"#,
            "no access_token",
        ),
        (
            r#"{"token_type":"Bearer","access_token":"SECRET x"}"#,
            "stand in a header",
        ),
        (
            r#"{"token_type":"Bearer","access_token":"SECRET\r\nX: 1"}"#,
            "stand in a header",
        ),
        (
            r#"{"token_type":"Bearer","access_token":""}"#,
            "stand in a header",
        ),
        (
            r#"{"token_type":"Bearer","access_token":"SECRET","expires_in":-1}"#,
            "expires_in",
        ),
        (
            r#"{"token_type":"Bearer","access_token":"SECRET","expires_in":{}}"#,
            "expires_in",
        ),
    ] {
        let error = refused(200, body);
        assert_eq!(error.kind(), ErrorKind::BadAnswer);
        assert!(error.message().contains(why), "{error}");
    }
}

#[test]
fn a_refusal_says_whose_fault_it_is_and_what_to_do() {
    for (status, body, kind, why) in [
        (
            401,
            "",
            ErrorKind::ClientRefused,
            "(401; client_secret_basic); check that client_id",
        ),
        (
            400,
            r#"{"error":"invalid_client","error_description":"SECRET"}"#,
            ErrorKind::ClientRefused,
            "(400, invalid_client; client_secret_basic)",
        ),
        (
            400,
            r#"{"error":"unauthorized_client"}"#,
            ErrorKind::ClientRefused,
            "let this client have the grant",
        ),
        (
            400,
            r#"{"error":"invalid_scope"}"#,
            ErrorKind::ClientRefused,
            "client_credentials_scope",
        ),
        (403, "SECRET", ErrorKind::ClientRefused, "(403)"),
        (
            400,
            r#"{"error":"SECRET"}"#,
            ErrorKind::BadAnswer,
            "unexpected status 400",
        ),
        (302, "", ErrorKind::BadAnswer, "redirects are not followed"),
        (404, "", ErrorKind::BadAnswer, "check token_endpoint"),
        (204, "", ErrorKind::BadAnswer, "unexpected status 204"),
        (500, "SECRET", ErrorKind::BadAnswer, "its own log"),
        (503, "", ErrorKind::Busy, "busy"),
    ] {
        let error = refused(status, body);
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.message().contains(why), "{error}");
        assert_eq!(error.is_outage(), status >= 500, "{error}");
    }
    let mut headers = HeaderMap::new();
    headers.insert(RETRY_AFTER, HeaderValue::from_static("7"));
    let error = answer_with(429, &headers, "").err().unwrap();
    assert_eq!(error.retry_after().unwrap().as_secs(), 7);
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    let body = r#"{"access_token":"a","token_type":"Bearer"}"#;
    assert!(answer_with(200, &headers, body).is_err());
}
