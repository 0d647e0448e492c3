//! Tests of `/stats`, which shows the requests that arrived.

mod support;

use serde_json::json;

use support::{Server, form, send};

#[tokio::test]
async fn stats_count_what_happened_and_can_be_reset() {
    let server = Server::start();
    let token = server.issue(&[]).await;
    for _ in 0..3 {
        server.introspect("/introspect", "*/*", &token).await;
    }
    server.introspect("/introspect", "*/*", "abc").await;
    send(form(
        server.client.post(server.url("/introspect")),
        &[("token", &token)],
    ))
    .await;

    let stats = server.stats().await;
    assert_eq!(stats["introspections"], 5);
    assert_eq!(stats["active"], 3);
    assert_eq!(stats["inactive"], 1);
    assert_eq!(stats["unauthorized"], 1);
    assert_eq!(stats["tokens_issued"], 1);
    assert_eq!(stats["connections"], 1, "the client keeps its connection");
    let of_abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(stats["by_token"][of_abc], 1);
    assert_eq!(stats["by_token"].as_object().unwrap().len(), 2);

    send(server.client.delete(server.url("/stats"))).await;
    let stats = server.stats().await;
    assert_eq!(stats["introspections"], 0);
    assert_eq!(stats["by_token"], json!({}));
    assert!(stats["last_request"].is_null());
}

#[tokio::test]
async fn the_last_request_is_shown_without_token_and_secret() {
    let server = Server::start_with(&["--bearer", "static-token"]);
    let token = server.issue(&[]).await;
    let request = server.introspection("/introspect?dialect=json", "application/jwt", &token);
    send(request.header("x-extra", "one").header("x-extra", "two")).await;
    let stats = server.stats().await;
    let last = &stats["last_request"];
    assert_eq!(last["method"], "POST");
    assert_eq!(last["path"], "/introspect?dialect=json");
    assert_eq!(last["version"], "HTTP/1.1");
    assert_eq!(last["headers"]["accept"], "application/jwt");
    assert_eq!(last["headers"]["authorization"], "Basic gateway");
    assert_eq!(last["headers"]["x-extra"], "one, two");
    assert_eq!(last["parameters"], json!(["token", "token_type_hint"]));
    assert_eq!(
        last["content_length"],
        format!("token={token}&token_type_hint=access_token").len()
    );
    assert!(!stats.to_string().contains(&token));
    assert!(!stats.to_string().contains("gateway-secret"));

    let request = form(
        server.client.post(server.url("/introspect")),
        &[("token", &token)],
    );
    send(request.bearer_auth("static-token")).await;
    assert_eq!(
        server.stats().await["last_request"]["headers"]["authorization"],
        "Bearer"
    );
}
