//! Tests of the well-behaved server: tokens, introspection, revocation, keys, client authentication.

mod support;

use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, TokenData, Validation};
use serde_json::{Value, json};

use support::{Server, form, gateway, header, json, send};

async fn verified(server: &Server, jwt: &str) -> TokenData<Value> {
    let body = send(server.client.get(server.url("/jwks")))
        .await
        .bytes()
        .await
        .unwrap();
    let keys: JwkSet = serde_json::from_slice(&body).unwrap();
    let kid = jsonwebtoken::decode_header(jwt).unwrap().kid.unwrap();
    let key = DecodingKey::from_jwk(keys.find(&kid).unwrap()).unwrap();
    let mut validation = Validation::new(Algorithm::ES256);
    validation.validate_aud = false;
    jsonwebtoken::decode(jwt, &key, &validation).unwrap()
}

#[tokio::test]
async fn a_token_is_opaque_and_its_response_is_not_stored() {
    let server = Server::start();
    let response = server
        .token_request(&[("grant_type", "client_credentials")])
        .await;
    assert_eq!(response.status(), 200);
    assert_eq!(header(&response, "cache-control"), Some("no-store"));
    let body = json(response).await;
    assert_eq!(body["token_type"], "Bearer");
    assert_eq!(body["expires_in"], 300);
    assert_eq!(body["scope"], "openid read");
    let token = body["access_token"].as_str().unwrap();
    assert_eq!(token.len(), 43);
    assert!(
        token
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    );
    assert_ne!(token, server.issue(&[]).await);
}

/// It is introspected as active for everybody, with nothing in the answer that tells it from an access token by name.
#[tokio::test]
async fn a_refresh_token_is_introspected_and_gives_another_access_token() {
    let server = Server::start();
    let grant = [
        ("grant_type", "password"),
        ("username", "alice"),
        ("password", "wonderland"),
        ("scope", "read offline_access"),
    ];
    let body = json(server.token_request(&grant).await).await;
    let refresh_token = body["refresh_token"].as_str().unwrap();
    let response = server
        .introspect("/introspect", "application/json", refresh_token)
        .await;
    let said = json(response).await;
    assert_eq!(said["active"], true);
    assert_eq!(said["sub"], "alice");
    for name in ["token_type", "aud", "jwt"] {
        assert!(said.get(name).is_none(), "{name}");
    }
    // No JWT stands for it.
    let response = server
        .introspect("/introspect", "application/jwt", refresh_token)
        .await;
    assert_eq!(response.status(), 204);

    let grant = [
        ("grant_type", "refresh_token"),
        ("refresh_token", refresh_token),
    ];
    let body = json(server.token_request(&grant).await).await;
    let token = body["access_token"].as_str().unwrap();
    let response = server
        .introspect("/introspect", "application/json", token)
        .await;
    let said = json(response).await;
    assert_eq!(
        (&said["sub"], &said["token_type"]),
        (&json!("alice"), &json!("Bearer"))
    );
    let grant = [("grant_type", "refresh_token"), ("refresh_token", token)];
    assert_eq!(server.token_request(&grant).await.status(), 400);
    // Who asks for none has none.
    let body = json(
        server
            .token_request(&[("grant_type", "client_credentials")])
            .await,
    )
    .await;
    assert!(body.get("refresh_token").is_none());
}

#[tokio::test]
async fn the_bare_jwt_verifies_against_the_published_key_and_stays_the_same() {
    let server = Server::start();
    let token = server.issue(&[("scope", "read write")]).await;
    let response = server
        .introspect("/introspect", "application/jwt", &token)
        .await;
    assert_eq!(response.status(), 200);
    assert_eq!(header(&response, "content-type"), Some("application/jwt"));
    assert_eq!(header(&response, "cache-control"), Some("no-store"));
    let jwt = response.text().await.unwrap();
    let TokenData { header, claims, .. } = verified(&server, &jwt).await;
    assert_eq!(header.typ.as_deref(), Some("at+jwt"));
    assert_eq!(claims["iss"], server.origin);
    assert_eq!(claims["sub"], "gateway");
    assert_eq!(claims["client_id"], "gateway");
    assert_eq!(claims["aud"], "api");
    assert_eq!(claims["scope"], "read write");
    assert_eq!(
        claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(),
        300
    );
    assert!(claims["jti"].is_string());
    assert_eq!(server.jwt(&token).await, jwt);
}

#[tokio::test]
async fn a_token_that_is_bound_to_a_key_says_so_wherever_it_is_shown() {
    let server = Server::start();
    for (cnf, token_type) in [
        (
            r#"{"jkt":"0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}"#,
            "DPoP",
        ),
        (
            r#"{"x5t#S256":"bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg0"}"#,
            "Bearer",
        ),
    ] {
        let request = [("grant_type", "client_credentials"), ("claim.cnf", cnf)];
        let body = json(server.token_request(&request).await).await;
        assert_eq!(body["token_type"], token_type);
        let token = body["access_token"].as_str().unwrap();
        let response = server
            .introspect("/introspect", "application/json", token)
            .await;
        let body = json(response).await;
        assert_eq!(body["token_type"], token_type);
        assert_eq!(body["cnf"].to_string(), cnf);
        let jwt = server.jwt(token).await;
        assert_eq!(verified(&server, &jwt).await.claims["cnf"], body["cnf"]);
    }
}

#[tokio::test]
async fn json_carries_the_claims_and_the_jwt_in_the_claim_that_is_asked_for() {
    let server = Server::start();
    let user = [
        ("grant_type", "password"),
        ("username", "alice"),
        ("password", "wonderland"),
    ];
    let body = json(server.token_request(&user).await).await;
    let token = body["access_token"].as_str().unwrap();
    let jwt = server.jwt(token).await;

    let response = server
        .introspect("/introspect", "application/json", token)
        .await;
    assert_eq!(header(&response, "content-type"), Some("application/json"));
    let body = json(response).await;
    assert_eq!(body["active"], true);
    assert_eq!(body["username"], "alice");
    assert_eq!(body["sub"], "alice");
    assert_eq!(body["token_type"], "Bearer");
    assert_eq!(body["jwt"], jwt);
    assert!(verified(&server, &jwt).await.claims.get("active").is_none());

    let body = json(
        server
            .introspect("/introspect?jwt_claim=phantom_token", "*/*", token)
            .await,
    )
    .await;
    assert_eq!(body["phantom_token"], jwt);
    assert!(body.get("jwt").is_none());
    let body = json(
        server
            .introspect("/introspect?jwt_claim=", "*/*", token)
            .await,
    )
    .await;
    assert!(!body.to_string().contains(&jwt));
    let body = json(
        server
            .introspect("/introspect?dialect=json", "application/jwt", token)
            .await,
    )
    .await;
    assert_eq!(body["jwt"], jwt);
    let bare = server
        .introspect("/introspect?dialect=jwt", "application/json", token)
        .await;
    assert_eq!(bare.text().await.unwrap(), jwt);
}

#[tokio::test]
async fn unknown_expired_and_revoked_tokens_are_inactive_in_both_dialects() {
    let server = Server::start();
    let expired = server.issue(&[("lifetime", "-1")]).await;
    let revoked = server.issue(&[]).await;
    server.jwt(&revoked).await;
    let revocation = form(
        gateway(server.client.post(server.url("/revoke"))),
        &[("token", &revoked)],
    );
    assert_eq!(send(revocation.try_clone().unwrap()).await.status(), 200);
    assert_eq!(
        send(revocation).await.status(),
        200,
        "a token that is gone is no error"
    );
    for token in [&expired, &revoked, "unknown"] {
        let response = server
            .introspect("/introspect", "application/jwt", token)
            .await;
        assert_eq!(response.status(), 204);
        assert_eq!(response.bytes().await.unwrap().len(), 0);
        let response = server
            .introspect("/introspect", "application/json", token)
            .await;
        assert_eq!(response.status(), 200);
        assert_eq!(json(response).await, json!({ "active": false }));
    }
}

#[tokio::test]
async fn a_client_cannot_revoke_the_token_of_another() {
    let server = Server::start_with(&["--client", "gateway:gateway-secret", "--client", "other:s"]);
    let token = server.issue(&[]).await;
    let revocation = server
        .client
        .post(server.url("/revoke"))
        .basic_auth("other", Some("s"));
    let response = send(form(revocation, &[("token", &token)])).await;
    assert_eq!(response.status(), 400);
    assert_eq!(json(response).await["error"], "invalid_grant");
    server.jwt(&token).await;
}

#[tokio::test]
async fn the_token_request_shapes_the_jwt() {
    let server = Server::start();
    let token = server
        .issue(&[
            ("audience", "https://a.example"),
            ("audience", "https://b.example"),
            ("lifetime", "1000"),
            ("padding", "10240"),
            ("claim.roles", "[\"admin\",\"dev\"]"),
            ("claim.name", "Älice"),
            ("claim.jti", "null"),
            ("claim.scp", "[\"read\"]"),
        ])
        .await;
    let jwt = server.jwt(&token).await;
    assert!(jwt.len() > 10240);
    let claims = verified(&server, &jwt).await.claims;
    assert_eq!(
        claims["aud"],
        json!(["https://a.example", "https://b.example"])
    );
    assert_eq!(
        claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(),
        1000
    );
    assert_eq!(claims["padding"].as_str().unwrap().len(), 10240);
    assert_eq!(claims["roles"], json!(["admin", "dev"]));
    assert_eq!(claims["name"], "Älice");
    assert_eq!(claims["scp"], json!(["read"]));
    assert!(claims.get("jti").is_none());
}

#[tokio::test]
async fn bad_token_requests_get_the_error_of_the_rfc() {
    let server = Server::start();
    let cases: [(&[(&str, &str)], &str); 8] = [
        (&[], "invalid_request"),
        (
            &[("grant_type", "authorization_code")],
            "unsupported_grant_type",
        ),
        (
            &[
                ("grant_type", "password"),
                ("username", "alice"),
                ("password", "x"),
            ],
            "invalid_grant",
        ),
        (
            &[
                ("grant_type", "password"),
                ("username", "bob"),
                ("password", "wonderland"),
            ],
            "invalid_grant",
        ),
        (
            &[("grant_type", "password"), ("username", "alice")],
            "invalid_request",
        ),
        (
            &[("grant_type", "client_credentials"), ("scope", "a\"b")],
            "invalid_scope",
        ),
        (
            &[("grant_type", "client_credentials"), ("lifetime", "long")],
            "invalid_request",
        ),
        (
            &[
                ("grant_type", "client_credentials"),
                ("grant_type", "password"),
            ],
            "invalid_request",
        ),
    ];
    for (parameters, error) in cases {
        let response = server.token_request(parameters).await;
        assert_eq!(response.status(), 400, "{parameters:?}");
        assert_eq!(json(response).await["error"], error, "{parameters:?}");
    }
    let request =
        gateway(server.client.post(server.url("/token"))).body("grant_type=client_credentials");
    assert_eq!(
        json(send(request).await).await["error"],
        "invalid_request",
        "no content type"
    );
}

#[tokio::test]
async fn a_wrong_secret_is_401_at_every_endpoint() {
    let server = Server::start();
    let token = server.issue(&[]).await;
    let parameters = [
        ("grant_type", "client_credentials"),
        ("token", token.as_str()),
    ];
    for path in ["/token", "/introspect", "/revoke"] {
        let wrong = |id: &str, secret: &str| {
            let request = server
                .client
                .post(server.url(path))
                .basic_auth(id, Some(secret));
            form(request, &parameters)
        };
        let anonymous = form(server.client.post(server.url(path)), &parameters);
        let posted = [
            &parameters[..],
            &[("client_id", "gateway"), ("client_secret", "no")],
        ]
        .concat();
        let posted = form(server.client.post(server.url(path)), &posted);
        for request in [
            wrong("gateway", "no"),
            wrong("nobody", "gateway-secret"),
            wrong("", ""),
            anonymous,
            posted,
        ] {
            let response = send(request).await;
            assert_eq!(response.status(), 401, "{path}");
            assert!(
                header(&response, "www-authenticate")
                    .unwrap()
                    .starts_with("Basic ")
            );
            assert_eq!(json(response).await["error"], "invalid_client");
        }
    }
    assert_eq!(server.stats().await["unauthorized"], 5);
    server.jwt(&token).await;
}

#[tokio::test]
async fn secrets_with_special_characters_work_form_encoded_in_basic_and_in_the_body() {
    let secret = "a:b%2F+c &=ü€";
    let server = Server::start_with(&[
        "--client",
        &format!("gate way:{secret}"),
        "--client",
        "plain:s",
    ]);
    let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let parameters = [("grant_type", "client_credentials")];

    let basic = server
        .client
        .post(server.url("/token"))
        .basic_auth(encode("gate way"), Some(encode(secret)));
    assert_eq!(send(form(basic, &parameters)).await.status(), 200);
    let raw = server
        .client
        .post(server.url("/token"))
        .basic_auth("gate way", Some(secret));
    assert_eq!(
        send(form(raw, &parameters)).await.status(),
        401,
        "not form-encoded: another secret"
    );

    let posted = [
        parameters[0],
        ("client_id", "gate way"),
        ("client_secret", secret),
    ];
    let request = form(server.client.post(server.url("/token")), &posted);
    assert_eq!(send(request).await.status(), 200);
    let both = form(
        server
            .client
            .post(server.url("/token"))
            .basic_auth("plain", Some("s")),
        &posted,
    );
    assert_eq!(send(both).await.status(), 400, "two methods at once");
}

#[tokio::test]
async fn introspection_also_takes_the_static_bearer_token_and_on_request_anybody() {
    let server = Server::start_with(&["--bearer", "static-token"]);
    let token = server.issue(&[]).await;
    let request = |path: &str| form(server.client.post(server.url(path)), &[("token", &token)]);
    assert_eq!(
        send(request("/introspect").bearer_auth("static-token"))
            .await
            .status(),
        200
    );
    assert_eq!(
        send(request("/introspect").bearer_auth("other"))
            .await
            .status(),
        401
    );
    assert_eq!(send(request("/introspect")).await.status(), 401);
    assert_eq!(
        send(request("/introspect?client_auth=none")).await.status(),
        200
    );
    assert_eq!(
        send(request("/revoke").bearer_auth("static-token"))
            .await
            .status(),
        401
    );
}

#[tokio::test]
async fn metadata_names_the_endpoints_under_the_issuer() {
    let server = Server::start_with(&["--issuer", "https://as.example"]);
    for path in [
        "/.well-known/oauth-authorization-server",
        "/.well-known/openid-configuration",
    ] {
        let metadata = json(send(server.client.get(server.url(path))).await).await;
        assert_eq!(metadata["issuer"], "https://as.example");
        assert_eq!(
            metadata["introspection_endpoint"],
            "https://as.example/introspect"
        );
        assert_eq!(metadata["token_endpoint"], "https://as.example/token");
        assert_eq!(metadata["revocation_endpoint"], "https://as.example/revoke");
        assert_eq!(metadata["jwks_uri"], "https://as.example/jwks");
    }
    let jwt = server.jwt(&server.issue(&[]).await).await;
    assert_eq!(
        verified(&server, &jwt).await.claims["iss"],
        "https://as.example"
    );
}

#[tokio::test]
async fn wrong_methods_and_paths_are_told_apart() {
    let server = Server::start();
    for (path, allowed) in [
        ("/introspect", "POST"),
        ("/token", "POST"),
        ("/revoke", "POST"),
    ] {
        let response = send(server.client.get(server.url(path))).await;
        assert_eq!(response.status(), 405, "{path}");
        assert_eq!(header(&response, "allow"), Some(allowed));
    }
    assert_eq!(
        send(server.client.get(server.url("/health")))
            .await
            .status(),
        200
    );
    assert_eq!(
        send(server.client.get(server.url("/elsewhere")))
            .await
            .status(),
        404
    );
}
