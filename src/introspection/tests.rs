use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::jwt::{test_jwt, test_jwt_with};
use crate::{Active, Config, ErrorKind};

mod exchange;
mod mint;
mod signed;

const NOW: i64 = 1_700_000_000;
const DIALECTS: [&str; 3] = ["jwt", "json", "auto"];

fn provider(settings: &[(&str, &str)]) -> Arc<Provider> {
    let mut config = Config::new("main");
    config
        .set(
            "introspection_endpoint",
            "https://as.example.com:8443/introspect?key=QUERY-SECRET",
        )
        .unwrap();
    for (key, value) in settings {
        config.set(key, value).unwrap();
    }
    config.build().unwrap()
}

/// Reads an answer from the provider's only endpoint.
fn read(
    provider: &Provider,
    status: u16,
    headers: &HeaderMap,
    body: &[u8],
    now: i64,
) -> Result<Verdict, Error> {
    let asked = AnswerContext {
        provider,
        server: &provider.server,
        endpoint: &provider.server.introspection[0],
        client_auth: provider.credentials.method(None),
        keys: None,
    };
    super::read(&asked, status, headers, body, now)
}

/// An answer of status 200 without headers.
fn answer(settings: &[(&str, &str)], body: impl AsRef<[u8]>) -> Result<Verdict, Error> {
    read(
        &provider(settings),
        200,
        &HeaderMap::new(),
        body.as_ref(),
        NOW,
    )
}

fn in_dialect(dialect: &str, body: impl AsRef<[u8]>) -> Result<Verdict, Error> {
    answer(&[("dialect", dialect)], body)
}

fn active(answer: Result<Verdict, Error>) -> Arc<Active> {
    match answer.unwrap() {
        Verdict::Active(active) => active,
        Verdict::Inactive => panic!("inactive"),
    }
}

fn is_inactive(answer: Result<Verdict, Error>) -> bool {
    matches!(answer.unwrap(), Verdict::Inactive)
}

/// The message of an answer that cannot be used, less what every message begins with.
fn bad(answer: Result<Verdict, Error>) -> String {
    let error = answer.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadAnswer, "{error}");
    what(&error)
}

fn what(error: &Error) -> String {
    let message = error.message();
    assert!(!message.contains("SECRET"), "{message}");
    assert!(!message.contains("eyJ"), "{message}");
    message
        .strip_prefix(
            "provider \"main\": introspection at https://as.example.com:8443/introspect: ",
        )
        .unwrap_or_else(|| panic!("{message}"))
        .to_owned()
}

fn good_jwt() -> String {
    test_jwt(
        r#"{"sub":"alice","scope":"read write","exp":1700000300,"iss":"https://as.example.com"}"#,
    )
}

fn with_jwt(claim: &str) -> String {
    json!({"active": true, claim: good_jwt(), "client_id": "web"}).to_string()
}

mod request {
    use super::*;

    fn form(request: &Request) -> String {
        String::from_utf8(request.body.to_vec()).unwrap()
    }

    use http::header::AUTHORIZATION;

    fn header<'a>(request: &'a Request, name: &HeaderName) -> Option<&'a HeaderValue> {
        let mut values = request.headers.iter().filter(|(other, _)| other == name);
        let value = values.next().map(|(_, value)| value);
        assert!(values.next().is_none(), "{name} stands twice");
        value
    }

    fn ask(settings: &[(&str, &str)], token: &str) -> Request {
        let provider = provider(settings);
        let server = &provider.server;
        let token = Token::parse(token.as_bytes()).unwrap();
        request(&provider, server, &server.introspection[0], token, NOW).unwrap()
    }

    #[test]
    fn the_form_holds_the_token_percent_encoded_and_the_hint() {
        let request = ask(&[], "abc-._~+/012==");
        assert_eq!(
            form(&request),
            "token=abc-._%7E%2B%2F012%3D%3D&token_type_hint=access_token"
        );
        assert_eq!(
            header(&request, &CONTENT_TYPE).unwrap(),
            "application/x-www-form-urlencoded"
        );
    }

    #[test]
    fn accept_names_the_one_type_that_the_dialect_wants() {
        for (dialect, accept) in [
            ("jwt", "application/jwt"),
            ("auto", "application/jwt"),
            ("json", "application/json"),
        ] {
            let request = ask(&[("dialect", dialect)], "t");
            assert_eq!(header(&request, &ACCEPT).unwrap(), accept);
            assert_eq!(header(&request, &http::header::ACCEPT_ENCODING), None);
        }
    }

    #[test]
    fn credentials_go_where_the_method_has_them() {
        let id = ("client_id", "gate way");
        let secret = ("client_secret", "s&x");
        let token_and_hint = "token=t&token_type_hint=access_token";

        let basic = ask(&[id, secret], "t");
        let authorization = header(&basic, &AUTHORIZATION).unwrap();
        assert_eq!(authorization, "Basic Z2F0ZSt3YXk6cyUyNng=");
        assert!(authorization.is_sensitive());
        assert_eq!(form(&basic), token_and_hint);

        let post = ask(&[id, secret, ("client_auth", "client_secret_post")], "t");
        assert_eq!(header(&post, &AUTHORIZATION), None);
        assert_eq!(
            form(&post),
            format!("{token_and_hint}&client_id=gate+way&client_secret=s%26x")
        );

        let bearer = ask(&[("bearer_token", "b/=")], "t");
        let authorization = header(&bearer, &AUTHORIZATION).unwrap();
        assert_eq!(authorization, "Bearer b/=");
        assert!(authorization.is_sensitive());
        assert_eq!(form(&bearer), token_and_hint);

        let none = ask(&[id, ("client_auth", "none")], "t");
        assert_eq!(header(&none, &AUTHORIZATION), None);
        assert_eq!(form(&none), format!("{token_and_hint}&client_id=gate+way"));
    }

    proptest! {
        #[test]
        fn a_server_reads_back_exactly_the_token(token in "[A-Za-z0-9._~+/-]{1,200}={0,3}") {
            let request = ask(&[("client_id", "me"), ("client_auth", "none")], &token);
            let pairs: Vec<_> = form_urlencoded::parse(&request.body).into_owned().collect();
            let expected = [("token", token.as_str()), ("token_type_hint", "access_token"), ("client_id", "me")];
            prop_assert_eq!(pairs.len(), expected.len());
            for ((name, value), expected) in pairs.iter().zip(expected) {
                prop_assert_eq!((name.as_str(), value.as_str()), expected);
            }
        }
    }
}

#[test]
fn a_bare_jwt_is_active_in_dialects_jwt_and_auto() {
    let jwt = good_jwt();
    for dialect in ["jwt", "auto"] {
        for body in [jwt.clone(), format!("{jwt}\n"), format!("{jwt}\r\n")] {
            let active = active(in_dialect(dialect, body));
            assert_eq!(
                active.authorization_after_sender_check(),
                format!("Bearer {jwt}")
            );
            assert_eq!(&*active.claims().scope, "read write");
            assert_eq!(active.claims().exp, Some(NOW + 300));
        }
    }
}

#[test]
fn a_jwt_in_a_claim_is_active_in_dialects_json_and_auto() {
    for dialect in ["json", "auto"] {
        for claim in ["jwt", "phantom_token"] {
            let active = active(in_dialect(dialect, format!("\n{}\n", with_jwt(claim))));
            assert_eq!(active.jwt_after_sender_check(), good_jwt());
            assert_eq!(active.claims().client_id.as_deref(), Some("web"));
            assert_eq!(active.claims().sub.as_deref(), Some("alice"));
            let claims: Value = serde_json::from_str(active.claims().json()).unwrap();
            assert!(
                claims.get("active").is_none() && claims.get(claim).is_none(),
                "{claims}"
            );
        }
    }
}

#[test]
fn the_configured_claims_are_looked_at_in_their_order() {
    let [one, two] = ["one", "two"].map(|sub| test_jwt(&json!({"sub": sub}).to_string()));
    let body = json!({"active": true, "a": one, "b": two, "c": null}).to_string();
    for (claims, sub) in [
        ("a b", "one"),
        ("b a", "two"),
        ("c b", "two"),
        ("missing b", "two"),
    ] {
        let active = active(answer(&[("dialect", "json"), ("jwt_claim", claims)], &body));
        assert_eq!(active.claims().sub.as_deref(), Some(sub), "{claims}");
        // No JWT is handed on as a claim, chosen or not.
        for claim in claims.split(' ') {
            assert!(!active.claims().json().contains(&format!("\"{claim}\"")));
        }
    }
}

#[test]
fn active_false_is_inactive_in_every_dialect_whatever_else_there_is() {
    for dialect in DIALECTS {
        for body in [
            json!({"active": false}),
            json!({"active": false, "jwt": good_jwt(), "exp": NOW + 1000}),
            json!({"active": false, "exp": "nonsense"}),
        ] {
            assert!(
                is_inactive(in_dialect(dialect, body.to_string())),
                "{dialect}: {body}"
            );
        }
    }
}

#[test]
fn active_must_be_a_boolean_that_stands_once() {
    let jwt = good_jwt();
    for dialect in DIALECTS {
        for value in [
            "\"true\"",
            "\"false\"",
            "1",
            "0",
            "null",
            "[]",
            "[true]",
            "{}",
        ] {
            let body = format!(r#"{{"active":{value},"jwt":"{jwt}"}}"#);
            let message = bad(in_dialect(dialect, body));
            assert!(message.contains("active is not true or false"), "{message}");
        }
        for body in [
            format!(r#"{{"active":false,"active":true,"jwt":"{jwt}"}}"#),
            format!(r#"{{"active":true,"jwt":"{jwt}","active":false}}"#),
            format!(r#"{{"active":false,"jwt":"{jwt}","\u0061ctive":true}}"#),
            format!(r#"{{"active":true,"jwt":"{jwt}","jwt":"x"}}"#),
        ] {
            let message = bad(in_dialect(dialect, body));
            assert!(message.contains("stands twice"), "{message}");
        }
        for body in [
            format!(r#"{{"jwt":"{jwt}"}}"#),
            "{}".to_owned(),
            r#"{"Active":true}"#.to_owned(),
        ] {
            let message = bad(in_dialect(dialect, body));
            assert!(message.contains("without the member active"), "{message}");
        }
    }
}

#[test]
fn an_answer_in_another_dialect_names_the_one_to_set() {
    let message = bad(in_dialect("json", good_jwt()));
    assert!(message.contains("set dialect jwt"), "{message}");
    let message = bad(in_dialect("jwt", with_jwt("jwt")));
    assert!(message.contains("set dialect auto"), "{message}");
    let message = bad(in_dialect("jwt", r#"{"active":true,"sub":"alice"}"#));
    assert!(
        message.contains("set dialect auto and jwt_claim"),
        "{message}"
    );
}

#[test]
fn an_active_answer_without_a_jwt_says_what_was_looked_for_and_what_to_set() {
    for dialect in ["json", "auto"] {
        for body in [
            json!({"active": true}),
            json!({"active": true, "scope": "read", "exp": NOW + 10}),
            json!({"active": true, "jwt": null}),
        ] {
            let message = bad(in_dialect(dialect, body.to_string()));
            for part in [
                "plain RFC 7662",
                "no JWT",
                "claim jwt, phantom_token",
                dialect,
                "jwt_claim",
            ] {
                assert!(message.contains(part), "{part}: {message}");
            }
        }
        let message = bad(in_dialect(dialect, with_jwt("elsewhere")));
        assert!(
            message.contains("another member of the answer holds one: set jwt_claim"),
            "{message}"
        );
        for value in [json!(1), json!({}), json!([good_jwt()]), json!(true)] {
            let message = bad(in_dialect(
                dialect,
                json!({"active": true, "jwt": value}).to_string(),
            ));
            assert!(
                message.contains("the claim jwt is not a string"),
                "{message}"
            );
        }
    }
}

/// Malformed JWTs.
fn broken_jwts() -> Vec<String> {
    let jwt = good_jwt();
    let (front, signature) = jwt.rsplit_once('.').unwrap();
    vec![
        format!("{jwt}\r\nX-SECRET: 1"),
        format!("{jwt} "),
        format!(" {jwt}"),
        format!("Bearer {jwt}"),
        format!("{jwt}\n\n"),
        format!("{jwt}\0"),
        format!("{jwt}="),
        format!("{jwt}.{signature}.{signature}"),
        front.to_owned(),
        format!("{front}."),
        format!("{front}.A"),
        format!("{jwt}{}", "A".repeat(64 * 1024)),
        "SECRET.SECRET.SECRET".to_owned(),
        "..".to_owned(),
        test_jwt("[]"),
        test_jwt_with(r#"{"alg":"none"}"#, "{}"),
        test_jwt_with("{}", "{}"),
        test_jwt(r#"{"exp":9999999999,"exp":1}"#),
    ]
}

#[test]
fn nothing_but_a_signed_jwt_gets_through() {
    for broken in broken_jwts() {
        for dialect in ["jwt", "auto"] {
            let message = bad(in_dialect(dialect, &broken));
            assert!(
                message.contains("not a signed JWT in compact form: "),
                "{message}"
            );
        }
        for dialect in ["json", "auto"] {
            let body = json!({"active": true, "jwt": broken}).to_string();
            let message = bad(in_dialect(dialect, body));
            assert!(
                message.contains("not a signed JWT in compact form: "),
                "{message}"
            );
        }
    }
    // In a claim there is no line break to forgive.
    let body = json!({"active": true, "jwt": format!("{}\n", good_jwt())}).to_string();
    bad(in_dialect("json", body));
}

#[test]
fn what_is_neither_jwt_nor_json_asks_whether_the_endpoint_is_right() {
    for dialect in DIALECTS {
        for body in ["", " ", "\r\n"] {
            let message = bad(in_dialect(dialect, body));
            assert!(message.contains("is empty"), "{message}");
        }
        for body in [
            "<html>a.b.c SECRET</html>",
            "\n<!doctype html>",
            "SECRET",
            "true",
            "null",
            "{",
            "{}{}",
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(
                CONTENT_TYPE,
                HeaderValue::from_static("text/html; x=SECRET"),
            );
            let provider = provider(&[("dialect", dialect)]);
            let message = bad(read(&provider, 200, &headers, body.as_bytes(), NOW));
            assert!(
                message.contains("neither a JWT nor a JSON object (it calls itself text/html)"),
                "{message}"
            );
            assert!(
                message.contains("is this the introspection endpoint?"),
                "{message}"
            );
        }
    }
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("SECRET SECRET"));
    bad(read(&provider(&[]), 200, &headers, b"x", NOW));
}

#[test]
fn the_bytes_decide_and_not_the_content_type() {
    for content_type in ["text/plain", "application/json", "application/jwt"] {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        for body in [good_jwt(), with_jwt("jwt")] {
            active(read(&provider(&[]), 200, &headers, body.as_bytes(), NOW));
        }
    }
}

#[test]
fn deeply_nested_json_is_refused() {
    let body = format!(
        r#"{{"active":false,"x":{}{}}}"#,
        "[".repeat(10_000),
        "]".repeat(10_000)
    );
    for dialect in DIALECTS {
        bad(in_dialect(dialect, &body));
    }
}

#[test]
fn an_encoded_answer_is_refused() {
    for encoding in ["gzip", "br", "identity, gzip", ""] {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
        let message = bad(read(
            &provider(&[]),
            200,
            &headers,
            good_jwt().as_bytes(),
            NOW,
        ));
        assert!(message.contains("Content-Encoding"), "{message}");
    }
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("Identity"));
    active(read(
        &provider(&[]),
        200,
        &headers,
        good_jwt().as_bytes(),
        NOW,
    ));
}

#[test]
fn expired_means_expired() {
    for (exp, expired) in [
        (NOW - 1, true),
        (NOW, true),
        (NOW + 1, false),
        (0, true),
        (-5, true),
    ] {
        let jwt = test_jwt(&json!({"exp": exp}).to_string());
        assert_eq!(
            matches!(in_dialect("jwt", &jwt).unwrap(), Verdict::Inactive),
            expired,
            "{exp}"
        );
        // Whichever of the two says so.
        for body in [
            json!({"active": true, "jwt": jwt}),
            json!({"active": true, "jwt": jwt, "exp": NOW + 1000}),
            json!({"active": true, "jwt": test_jwt("{}"), "exp": exp}),
            json!({"active": true, "jwt": good_jwt(), "exp": exp}),
        ] {
            let answer = in_dialect("json", body.to_string()).unwrap();
            assert_eq!(matches!(answer, Verdict::Inactive), expired, "{body}");
        }
    }
}

#[test]
fn a_token_that_is_not_valid_yet_is_inactive_beyond_a_minute() {
    for (nbf, early) in [
        (NOW - 1, false),
        (NOW + 60, false),
        (NOW + 61, true),
        (i64::MAX, true),
    ] {
        let jwt = test_jwt(&json!({"nbf": nbf}).to_string());
        assert_eq!(
            matches!(in_dialect("auto", jwt).unwrap(), Verdict::Inactive),
            early,
            "{nbf}"
        );
    }
}

#[test]
fn a_jwt_without_exp_is_active_and_has_none() {
    let active = active(in_dialect("jwt", test_jwt("{}")));
    assert_eq!(active.claims().exp, None);
    assert_eq!(active.claims().json(), "{}");
}

#[test]
fn a_claim_that_is_not_of_its_kind_is_an_error_and_no_verdict() {
    for (claims, name) in [
        (json!({"exp": "SECRET"}), "exp"),
        (json!({"exp": true}), "exp"),
        (json!({"nbf": []}), "nbf"),
        (json!({"scope": {"SECRET": 1}}), "scope"),
        (json!({"aud": 5}), "aud"),
        (json!({"sub": 5}), "sub"),
    ] {
        let message = bad(in_dialect("jwt", test_jwt(&claims.to_string())));
        assert!(message.contains(name), "{message}");
        let mut body = claims;
        body["active"] = json!(true);
        body["jwt"] = json!(good_jwt());
        let message = bad(in_dialect("json", body.to_string()));
        assert!(message.contains(name), "{message}");
    }
}

#[test]
fn no_content_is_inactive_where_the_answer_is_a_bare_jwt() {
    for (dialect, body) in [
        ("jwt", ""),
        ("auto", ""),
        ("jwt", "SECRET"),
        ("auto", "SECRET"),
    ] {
        let provider = provider(&[("dialect", dialect)]);
        assert!(is_inactive(read(
            &provider,
            204,
            &HeaderMap::new(),
            body.as_bytes(),
            NOW
        )));
    }
    let provider = provider(&[("dialect", "json")]);
    let message = bad(read(&provider, 204, &HeaderMap::new(), b"", NOW));
    assert!(message.contains("dialect jwt or auto"), "{message}");
}

fn with_status(settings: &[(&str, &str)], status: u16, body: &str) -> Error {
    let provider = provider(settings);
    read(&provider, status, &HeaderMap::new(), body.as_bytes(), NOW).unwrap_err()
}

#[test]
fn no_status_but_200_makes_a_token_active() {
    for dialect in DIALECTS {
        for status in (100..600).filter(|status| ![200, 204].contains(status)) {
            for body in [
                good_jwt(),
                with_jwt("jwt"),
                r#"{"active":false}"#.to_owned(),
            ] {
                let error = with_status(&[("dialect", dialect)], status, &body);
                let expected = match status {
                    401 | 403 => ErrorKind::ClientRefused,
                    429 | 503 => ErrorKind::Busy,
                    _ => ErrorKind::BadAnswer,
                };
                assert_eq!(error.kind(), expected, "{status}");
                assert!(what(&error).contains(&status.to_string()), "{error}");
            }
        }
    }
}

#[test]
fn refused_credentials_name_the_method_and_what_to_check() {
    let id = ("client_id", "gateway");
    let secret = ("client_secret", "SECRET");
    for (settings, method, check) in [
        (
            vec![id, secret],
            "client_secret_basic",
            "client_auth client_secret_post",
        ),
        (
            vec![id, secret, ("client_auth", "client_secret_post")],
            "client_secret_post",
            "client_auth client_secret_basic",
        ),
        (
            vec![("bearer_token", "SECRET")],
            "bearer",
            "has not expired",
        ),
        (vec![], "none", "set client_id and client_secret"),
    ] {
        for (status, body) in [
            (401, ""),
            (403, ""),
            (
                400,
                r#"{"error":"invalid_client","error_description":"SECRET"}"#,
            ),
        ] {
            let error = with_status(&settings, status, body);
            assert_eq!(error.kind(), ErrorKind::ClientRefused);
            let message = what(&error);
            assert!(
                message.contains(&format!("client_auth {method})")),
                "{message}"
            );
            assert!(message.contains(check), "{message}");
        }
    }
}

#[test]
fn a_redirect_says_that_it_is_not_followed_and_not_where_it_leads() {
    let mut headers = HeaderMap::new();
    headers.insert(
        "location",
        HeaderValue::from_static("https://other/?SECRET"),
    );
    for status in [301, 302, 303, 307, 308] {
        let message = bad(read(&provider(&[]), status, &headers, b"SECRET", NOW));
        assert!(message.contains("redirects are not followed"), "{message}");
        assert!(message.contains("set introspection_endpoint"), "{message}");
        assert!(!message.contains("other"), "{message}");
    }
}

#[test]
fn a_bad_request_names_the_error_code_only_where_it_is_one() {
    let message = bad(Err(with_status(
        &[],
        400,
        r#"{"error":"unsupported_token_type"}"#,
    )));
    assert!(
        message.contains("(400, unsupported_token_type)"),
        "{message}"
    );
    for body in [
        "",
        "SECRET",
        r#"{"error":"SECRET"}"#,
        r#"{"error":"a SECRET\nline"}"#,
        r#"{"error":{"SECRET":1}}"#,
        r#"{"error":""}"#,
        r#"{"error":"a","error":"b"}"#,
        r#"{"error_description":"SECRET"}"#,
        &format!(r#"{{"error":"{}"}}"#, "a".repeat(41)),
    ] {
        let message = bad(Err(with_status(&[], 400, body)));
        assert!(message.contains("refuses the request (400);"), "{message}");
    }
}

#[test]
fn a_wrong_endpoint_is_named_as_such() {
    let message = bad(Err(with_status(&[], 404, "")));
    assert!(message.contains("set introspection_endpoint"), "{message}");
    let message = bad(Err(with_status(&[], 406, "")));
    assert!(message.contains("dialect json"), "{message}");
}

#[test]
fn a_busy_server_says_when_to_try_again_within_reason() {
    for status in [429, 503] {
        for (value, seconds) in [
            ("5", Some(5)),
            (" 5 ", Some(5)),
            ("0", Some(1)),
            ("3600", Some(3600)),
            ("3601", Some(3600)),
            ("99999999999999999999999", Some(3600)),
            // 1700000000 is Tue, 14 Nov 2023 22:13:20 GMT.
            ("Tue, 14 Nov 2023 22:13:50 GMT", Some(30)),
            ("Tuesday, 14-Nov-23 22:13:50 GMT", Some(30)),
            ("Tue, 14 Nov 2023 22:13:20 GMT", Some(1)),
            ("Tue, 14 Nov 2000 22:13:20 GMT", Some(1)),
            ("Tue, 14 Nov 2090 22:13:20 GMT", Some(3600)),
            ("", None),
            ("-5", None),
            ("1.5", None),
            ("soon", None),
            ("5s", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_static(value));
            let error = read(&provider(&[]), status, &headers, b"SECRET", NOW).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Busy);
            assert_eq!(
                error.retry_after(),
                seconds.map(Duration::from_secs),
                "{value:?}"
            );
            assert!(what(&error).contains(&status.to_string()));
        }
        assert_eq!(with_status(&[], status, "").retry_after(), None);
    }
}

proptest! {
    #[test]
    fn no_answer_makes_it_panic_and_none_is_quoted(
        dialect in proptest::sample::select(&DIALECTS[..]),
        status in proptest::sample::select(&[200u16, 204, 302, 400, 401, 429, 500][..]),
        body in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..100),
            "[{}\\[\\]\":,.a-z0-9 ]{0,60}".prop_map(String::into_bytes),
            "\\{\"active\":(true|false|1),\"(jwt|exp|scope)\":\"?[a-z0-9.]{0,9}\"?\\}".prop_map(String::into_bytes),
        ],
    ) {
        let provider = provider(&[("dialect", dialect)]);
        match read(&provider, status, &HeaderMap::new(), &body, NOW) {
            Ok(Verdict::Active(_)) => prop_assert!(false, "active"),
            Ok(Verdict::Inactive) => prop_assert!(status == 204 || body.first() == Some(&b'{'), "inactive"),
            Err(error) => prop_assert!(error.message().starts_with("provider \"main\": introspection at https://")),
        }
    }

    #[test]
    fn no_byte_changed_in_an_active_answer_lets_anything_but_a_jwt_through(
        at in any::<prop::sample::Index>(), byte in any::<u8>(), bare in any::<bool>(),
    ) {
        let mut body = if bare { good_jwt() } else { with_jwt("jwt") }.into_bytes();
        let at = at.index(body.len());
        body[at] = byte;
        if let Ok(Verdict::Active(active)) = in_dialect("auto", &body) {
            prop_assert!(crate::jwt::check_compact(active.jwt_after_sender_check().as_bytes()).is_ok());
            prop_assert!(HeaderValue::from_str(active.authorization_after_sender_check()).is_ok());
        }
    }
}

#[test]
fn a_token_that_the_server_calls_another_kind_opens_nothing() {
    for (name, kind) in [
        ("token_type", "refresh_token"),
        ("token_use", "refresh_token"),
        ("typ", "Refresh"),
        ("typ", "Offline"),
        ("typ", "ID"),
    ] {
        let body = json!({"active": true, "jwt": good_jwt(), name: kind}).to_string();
        assert!(is_inactive(in_dialect("auto", &body)), "{name}: {kind}");
    }
    for (name, kind) in [
        ("token_type", "Bearer"),
        ("token_use", "access_token"),
        ("typ", "Bearer"),
    ] {
        let body = json!({"active": true, "jwt": good_jwt(), name: kind}).to_string();
        active(in_dialect("auto", &body));
    }
}
