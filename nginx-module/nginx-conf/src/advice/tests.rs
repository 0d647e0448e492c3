use super::*;
use crate::Files;

struct One(String);

impl Files for One {
    fn read(&mut self, _: &str) -> Option<Vec<u8>> {
        Some(self.0.clone().into_bytes())
    }

    fn included(&mut self, pattern: &str) -> Option<Vec<String>> {
        Some(vec![pattern.to_owned()])
    }
}

/// The severity, the line and the beginning of each message about a server with this in it.
fn said(server: &str) -> Vec<(Level, String, String)> {
    let text = format!("http {{\nserver {{\n{server}\n}}\n}}\n");
    let directives = crate::read(&mut One(text), "f").unwrap();
    advise(&directives)
        .into_iter()
        .map(|advice| (advice.level, advice.place, advice.message))
        .collect()
}

#[test]
fn a_configuration_that_protects_is_not_commented_on() {
    for server in [
        "location / { phantom_token main; proxy_pass http://api; }",
        "phantom_token main; location /health { phantom_token off; return 200 ok; }",
        "phantom_token main; location /old { return 301 /new; } location @e { return 200; }",
        "phantom_token main; location /x { return 403; }",
        "location / { phantom_token main; proxy_set_header Authorization $http_authorization; proxy_pass http://a; }",
        "location / { phantom_token main; proxy_set_header X-A b; proxy_pass http://a; }",
        "phantom_token_introspection_endpoint /as; phantom_token on; \
         location = /as { internal; proxy_set_header Authorization \"Basic x\"; proxy_pass http://as; }",
        "location / { phantom_token main; phantom_token_forward header X-JWT; \
         proxy_set_header Authorization \"\"; proxy_pass http://a; }",
        "location /s { phantom_token_status; allow 127.0.0.1; deny all; }",
        "listen 127.0.0.1:80; location /s { phantom_token_status; }",
        "auth_basic x; location /s { phantom_token_purge main; }",
        // nginx inherits `internal`.
        "location /x { internal; location /x/y { phantom_token main; return 200; } }",
        "location @a { phantom_token main; return 200; }",
    ] {
        assert_eq!(said(server), [], "{server}");
    }
}

#[test]
fn what_leaves_a_location_open_is_said_with_its_line() {
    let cases: &[(&str, Level, &str, &str)] = &[
        (
            "location / { phantom_token main;\n return 200; }",
            Level::Error,
            "f:4",
            "\"return\" answers before a token is looked at, so that \"phantom_token\" beside it protects nothing",
        ),
        (
            "phantom_token main;\nlocation / {\n return 204; }",
            Level::Warning,
            "f:5",
            "\"return\" answers before a token is looked at, although \"phantom_token\" is set around it",
        ),
        (
            "location /s { phantom_token_status; }",
            Level::Warning,
            "f:3",
            "\"phantom_token_status\" is open to everybody who reaches the server",
        ),
        (
            "location ~ @ { phantom_token main;\n return 200; }",
            Level::Error,
            "f:4",
            "\"return\" answers before a token is looked at, so that \"phantom_token\" beside it protects nothing",
        ),
        (
            "location /p { phantom_token main; phantom_token_optional on; phantom_token_purge main; }",
            Level::Warning,
            "f:3",
            "\"phantom_token_purge\" is open to everybody who reaches the server",
        ),
        (
            "location /p { satisfy any; allow all; auth_basic x; phantom_token_purge main; }",
            Level::Warning,
            "f:3",
            "\"phantom_token_purge\" is open to everybody who reaches the server",
        ),
        (
            "listen 127.0.0.1:80; listen 80; location /p { phantom_token_purge main; }",
            Level::Warning,
            "f:3",
            "\"phantom_token_purge\" is open to everybody who reaches the server",
        ),
    ];
    for (server, level, place, beginning) in cases {
        let said = said(server);
        assert_eq!(said.len(), 1, "{server}: {said:?}");
        let (found, at, message) = &said[0];
        assert_eq!((found, at.as_str()), (level, *place), "{server}");
        assert!(message.starts_with(beginning), "{message}");
    }
}

/// The name of a location that introspects in another server says nothing about this one.
#[test]
fn an_introspecting_location_is_one_of_its_own_server() {
    let text = "http { server { phantom_token_introspection_endpoint /i; } \
                server { location /i { phantom_token main; return 200; } } }";
    let directives = crate::read(&mut One(text.to_owned()), "f").unwrap();
    let advice = advise(&directives);
    assert_eq!(advice.len(), 1, "{advice:?}");
    assert_eq!(advice[0].level, Level::Error);
}

#[test]
fn what_keeps_the_jwt_from_the_api_is_said() {
    for (upstream, expected) in [
        (
            "proxy_set_header Authorization \"\"; proxy_pass http://a;",
            "\"proxy_set_header Authorization\" throws the JWT away",
        ),
        (
            "proxy_set_header authorization x; proxy_pass http://a;",
            "\"proxy_set_header authorization\" throws the JWT away",
        ),
        (
            "grpc_set_header Authorization x; grpc_pass a;",
            "\"grpc_set_header Authorization\" throws the JWT away",
        ),
        (
            "fastcgi_param HTTP_AUTHORIZATION \"\"; fastcgi_pass a;",
            "\"fastcgi_param HTTP_AUTHORIZATION\" throws the JWT away",
        ),
        (
            "proxy_pass_request_headers off; proxy_pass http://a;",
            "\"proxy_pass_request_headers off\" throws the JWT away: add \"proxy_set_header Authorization \
             $http_authorization;\"",
        ),
        (
            "phantom_token_forward header X-JWT; proxy_set_header X_JWT 1; proxy_pass http://a;",
            "\"proxy_set_header X_JWT\" throws the JWT away",
        ),
    ] {
        let said = said(&format!("phantom_token main; location / {{ {upstream} }}"));
        assert_eq!(said.len(), 1, "{upstream}: {said:?}");
        assert_eq!(said[0].0, Level::Warning);
        assert!(said[0].2.starts_with(expected), "{}", said[0].2);
    }
}

/// nginx's rule: directives of a level replace those of the level above.
#[test]
fn levels_inherit_as_nginx_has_it() {
    let inner = "proxy_set_header Authorization \"\"; phantom_token main; \
                 location /a { proxy_pass http://a; } \
                 location /b { proxy_set_header X-B 1; proxy_pass http://b; } \
                 location /c { phantom_token off; proxy_pass http://c; } \
                 location /d { if ($x) { proxy_pass http://d; } }";
    let said = said(inner);
    // `/a` and `/d` inherit the one directive: it is said once.
    assert_eq!(said.len(), 1, "{said:?}");
}

#[test]
fn headers_that_applications_confuse_are_the_same() {
    assert!(is_same_name(b"X-User", b"x_user"));
    assert!(is_same_name(b"X.User", b"X-User"));
    assert!(!is_same_name(b"X-User", b"X-Users"));
    assert!(!is_same_name(b"X-User", b"X-Usex"));
}
