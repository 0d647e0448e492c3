//! Dialect `exchange`.

use super::*;

const BASE: [(&str, &str); 3] = [
    ("dialect", "exchange"),
    (
        "introspection_endpoint",
        "https://as.example.com:8443/introspect?key=QUERY-SECRET",
    ),
    (
        "token_endpoint",
        "https://as.example.com:8443/token?key=QUERY-SECRET",
    ),
];

fn exchanging(settings: &[(&str, &str)]) -> Arc<Provider> {
    let mut config = Config::new("main");
    for (key, value) in BASE.iter().chain(settings) {
        config.set(key, value).unwrap();
    }
    config.build().unwrap()
}

fn at_status(status: u16, body: &str) -> Result<Verdict, Error> {
    let provider = exchanging(&[]);
    let asked = AnswerContext {
        provider: &provider,
        server: &provider.server,
        endpoint: &provider.endpoints(&provider.server)[0],
        client_auth: crate::oauth::ClientAuth::None,
        keys: None,
    };
    super::super::read(&asked, status, &HeaderMap::new(), body.as_bytes(), NOW)
}

fn answered(body: Value) -> Result<Verdict, Error> {
    at_status(200, &body.to_string())
}

fn wrong(answer: Result<Verdict, Error>) -> String {
    let error = answer.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadAnswer, "{error}");
    let message = error.message();
    assert!(
        message.starts_with(
            "provider \"main\": token endpoint at https://as.example.com:8443/token: "
        )
    );
    assert!(
        !message.contains("SECRET") && !message.contains("eyJ"),
        "{message}"
    );
    message.to_owned()
}

const JWT_TYPE: &str = "urn:ietf:params:oauth:token-type:jwt";
const ACCESS_TOKEN_TYPE: &str = "urn:ietf:params:oauth:token-type:access_token";

#[test]
fn the_form_says_what_is_exchanged_for_what() {
    let form = |settings: &[(&str, &str)]| {
        let provider = exchanging(settings);
        let server = &provider.server;
        let endpoint = &provider.endpoints(server)[0];
        let token = Token::parse(b"a+b=").unwrap();
        let request = request(&provider, server, endpoint, token, NOW).unwrap();
        assert!(
            request
                .headers
                .contains(&(ACCEPT, HeaderValue::from_static("application/json")))
        );
        form_urlencoded::parse(&request.body)
            .into_owned()
            .collect::<Vec<_>>()
    };
    let base = [
        (
            "grant_type",
            "urn:ietf:params:oauth:grant-type:token-exchange",
        ),
        ("subject_token", "a+b="),
        ("subject_token_type", ACCESS_TOKEN_TYPE),
        ("requested_token_type", JWT_TYPE),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(form(&[]), base);
    let more = form(&[
        ("exchange_token_type", "access_token"),
        ("exchange_audience", "orders  billing&x"),
        ("exchange_resource", "https://api.example.com/a"),
        ("exchange_scope", "read write"),
        ("client_id", "gateway"),
        ("client_secret", "s"),
        ("client_auth", "client_secret_post"),
    ]);
    assert_eq!(more[3].1, ACCESS_TOKEN_TYPE);
    let more: Vec<_> = more[4..]
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    assert_eq!(
        more,
        [
            ("audience", "orders"),
            ("audience", "billing&x"),
            ("resource", "https://api.example.com/a"),
            ("scope", "read write"),
            ("client_id", "gateway"),
            ("client_secret", "s"),
        ]
    );
}

#[test]
fn what_the_token_was_exchanged_for_goes_upstream_for_as_long_as_both_allow() {
    let jwt = good_jwt();
    for (more, exp) in [
        (json!({}), NOW + 300),
        (json!({"expires_in": 60}), NOW + 60),
        (json!({"expires_in": "60"}), NOW + 60),
        (json!({"expires_in": 3600}), NOW + 300),
        (json!({"expires_in": u64::MAX}), NOW + 300),
        (
            json!({"expires_in": null, "issued_token_type": null}),
            NOW + 300,
        ),
        (
            json!({"issued_token_type": JWT_TYPE, "token_type": "N_A"}),
            NOW + 300,
        ),
        (
            json!({"issued_token_type": ACCESS_TOKEN_TYPE, "token_type": "bearer"}),
            NOW + 300,
        ),
        (
            json!({"refresh_token": "SECRET", "id_token": "SECRET"}),
            NOW + 300,
        ),
    ] {
        let mut body = more;
        body["access_token"] = json!(jwt);
        let active = active(answered(body.clone()));
        assert_eq!(active.jwt_after_sender_check(), jwt);
        assert_eq!(active.exp(), Some(exp), "{body}");
        assert!(!active.claims().json().contains("SECRET"));
    }
    let body = json!({"access_token": jwt, "scope": "read"});
    assert_eq!(&*active(answered(body)).claims().scope, "read");
    for lifetime in [0, -5] {
        let body = json!({"access_token": jwt, "expires_in": lifetime});
        assert!(is_inactive(answered(body)));
    }
    let expired = test_jwt(&json!({"exp": NOW}).to_string());
    assert!(is_inactive(answered(json!({"access_token": expired}))));
}

#[test]
fn an_opaque_token_or_another_kind_of_token_is_an_error() {
    for opaque in ["SECRET", "", "SECRET-with_more~chars"] {
        let message = wrong(answered(json!({"access_token": opaque})));
        assert!(message.contains("for an opaque token"), "{message}");
        assert!(message.contains("exchange_token_type"), "{message}");
    }
    for broken in broken_jwts() {
        wrong(answered(json!({"access_token": broken})));
    }
    for (name, value) in [
        (
            "issued_token_type",
            json!("urn:ietf:params:oauth:token-type:refresh_token"),
        ),
        (
            "issued_token_type",
            json!("urn:ietf:params:oauth:token-type:id_token"),
        ),
        ("issued_token_type", json!(1)),
        ("token_type", json!("DPoP")),
        ("token_type", json!(1)),
        ("expires_in", json!("soon")),
        ("scope", json!(5)),
    ] {
        let message = wrong(answered(json!({"access_token": good_jwt(), name: value})));
        assert!(message.contains(name), "{message}");
    }
}

#[test]
fn what_is_no_token_response_asks_whether_this_is_the_token_endpoint() {
    for body in [
        "",
        "<html>",
        "{}",
        r#"{"active":true}"#,
        r#"{"access_token":7}"#,
        &good_jwt(),
    ] {
        let message = wrong(at_status(200, body));
        assert!(message.contains("is this the token endpoint?"), "{message}");
    }
    wrong(at_status(200, r#"{"access_token":"a","access_token":"b"}"#));
    let message = wrong(at_status(404, ""));
    assert!(message.contains("set token_endpoint"), "{message}");
    wrong(at_status(204, ""));
}

#[test]
fn an_error_is_about_the_token_or_about_us() {
    let said = |code: &str, description: &str| {
        let body = json!({"error": code, "error_description": description});
        at_status(400, &body.to_string())
    };
    for (code, description) in [
        ("invalid_grant", ""),
        ("invalid_grant", "whatever SECRET"),
        ("invalid_request", ""),
        ("invalid_request", "Invalid token"),
        ("invalid_request", "subject_token is invalid"),
    ] {
        assert!(
            is_inactive(said(code, description)),
            "{code}: {description}"
        );
    }
    assert!(is_inactive(at_status(
        400,
        r#"{"error":"invalid_request"}"#
    )));
    for (code, description, mend) in [
        (
            "invalid_request",
            "requested_token_type unsupported",
            "check exchange_token_type",
        ),
        (
            "invalid_request",
            "Audience not found SECRET",
            "exchange_audience",
        ),
        ("invalid_target", "", "exchange_resource"),
        ("invalid_scope", "", "exchange_scope"),
        ("unsupported_grant_type", "", "does not exchange tokens"),
        ("server_error", "", "check token_endpoint"),
    ] {
        let message = wrong(said(code, description));
        assert!(message.contains(mend), "{message}");
    }
    for body in [
        "",
        "SECRET",
        "{}",
        r#"{"error":"invalid_grant","error":"x"}"#,
    ] {
        wrong(at_status(400, body));
    }
    for (status, code) in [
        (400, "invalid_client"),
        (400, "unauthorized_client"),
        (400, "access_denied"),
        (401, "invalid_client"),
        (401, "invalid_grant"),
        (403, "access_denied"),
    ] {
        let error = at_status(status, &json!({"error": code}).to_string()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ClientRefused, "{status} {code}");
    }
    for (status, kind) in [
        (429, ErrorKind::Busy),
        (503, ErrorKind::Busy),
        (500, ErrorKind::BadAnswer),
    ] {
        let error = at_status(status, r#"{"error":"invalid_grant"}"#).unwrap_err();
        assert_eq!(error.kind(), kind);
    }
}
