//! Every knob does what it says, seen from the other end of the connection.

mod support;

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use flate2::read::GzDecoder;
use serde_json::json;

use support::{Server, builder, form, gateway, header, json, send};

const JWT: &str = "application/jwt";
const JSON: &str = "application/json";

/// Head and body of a raw response.
fn parts(response: &str) -> (&str, &str) {
    response.split_once("\r\n\r\n").unwrap()
}

fn declared_length(head: &str) -> Option<usize> {
    head.lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .map(|length| length.parse().unwrap())
}

#[tokio::test]
async fn latency_delays_the_answer_and_nothing_else() {
    let server = Server::start();
    let token = server.issue(&[]).await;
    let start = Instant::now();
    let response = server
        .introspect("/introspect?latency=300", JWT, &token)
        .await;
    assert_eq!(response.status(), 200);
    assert!(start.elapsed() >= Duration::from_millis(300));
}

#[tokio::test]
async fn a_request_is_counted_before_the_latency() {
    let server = Server::start();
    let token = server.issue(&[]).await;
    let _waiting = server.raw_introspection("/introspect?latency=3600000", JWT, &token);
    for _ in 0..1000 {
        if server.stats().await["introspections"] == 1 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never counted");
}

#[tokio::test]
async fn status_replaces_the_answer_whoever_asks() {
    let server = Server::start();
    for status in [401, 403, 404, 429, 500, 503, 204] {
        let response = server
            .introspect(&format!("/introspect?status={status}"), JWT, "x")
            .await;
        assert_eq!(response.status(), status);
        assert_eq!(header(&response, "retry-after"), None);
    }
    let anonymous = form(
        server
            .client
            .post(server.url("/introspect?status=503&retry_after=7")),
        &[("token", "x")],
    );
    let response = send(anonymous).await;
    assert_eq!(response.status(), 503);
    assert_eq!(header(&response, "retry-after"), Some("7"));
    assert_eq!(json(response).await["error"], "server_error");
}

#[tokio::test]
async fn redirect_points_elsewhere() {
    let server = Server::start();
    let response = server
        .introspect(
            "/introspect?redirect=http%3A%2F%2Felse.example%2F",
            JWT,
            "x",
        )
        .await;
    assert_eq!(response.status(), 302);
    assert_eq!(header(&response, "location"), Some("http://else.example/"));
}

#[tokio::test]
async fn cache_control_is_set_and_left_out_as_asked() {
    let server = Server::start();
    let token = server.issue(&[]).await;
    let response = server
        .introspect("/introspect?cache_control=max-age%3D30", JWT, &token)
        .await;
    assert_eq!(header(&response, "cache-control"), Some("max-age=30"));
    let response = server
        .introspect("/introspect?cache_control=", JWT, &token)
        .await;
    assert_eq!(header(&response, "cache-control"), None);
}

#[tokio::test]
async fn split_sends_small_segments_of_a_whole_response() {
    let server = Server::start();
    let token = server.issue(&[]).await;
    let pieces = server.raw_pieces("/introspect?split=1", JSON, &token);
    // Pieces can merge on a busy machine, but not all of them.
    assert!(pieces.len() > 50, "{} pieces", pieces.len());
    let response = String::from_utf8(pieces.concat()).unwrap();
    let (head, body) = parts(&response);
    assert_eq!(declared_length(head), Some(body.len()));
    assert!(body.contains("\"active\":true"));

    let split = server.introspect("/introspect?split=7", JWT, &token).await;
    assert_eq!(split.text().await.unwrap(), server.jwt(&token).await);
}

#[tokio::test]
async fn chunked_sends_several_chunks() {
    let server = Server::start();
    let token = server.issue(&[]).await;
    let response = server.raw("/introspect?chunked=1", JWT, &token);
    let (head, body) = parts(&response);
    assert!(head.contains("transfer-encoding: chunked"));
    assert_eq!(declared_length(head), None);
    assert!(body.matches("40\r\n").count() > 2);
    assert!(body.ends_with("\r\n0\r\n\r\n"));
    let read = server
        .introspect("/introspect?chunked=1", JWT, &token)
        .await;
    assert_eq!(read.text().await.unwrap(), server.jwt(&token).await);
}

#[tokio::test]
async fn no_length_ends_the_body_with_the_connection() {
    let server = Server::start();
    let token = server.issue(&[]).await;
    let response = server.raw("/introspect?no_length=1", JWT, &token);
    let (head, body) = parts(&response);
    assert_eq!(declared_length(head), None);
    assert!(!head.contains("transfer-encoding"));
    assert!(head.contains("connection: close"));
    assert_eq!(body, server.jwt(&token).await);
}

#[tokio::test]
async fn oversized_streams_that_many_bytes_of_what_looks_right() {
    let server = Server::start();
    let token = server.issue(&[]).await;
    let mut stream = server.raw_introspection("/introspect?oversized=100000000", JWT, &token);
    let mut length = 0;
    let mut buffer = vec![0; 1 << 20];
    loop {
        match stream.read(&mut buffer).unwrap() {
            0 => break,
            count => length += count,
        }
    }
    assert!((100_000_000..100_001_000).contains(&length), "{length}");

    let jwt = server
        .introspect("/introspect?oversized=5000", JWT, &token)
        .await
        .text()
        .await
        .unwrap();
    assert_eq!(jwt.len(), 5000);
    assert!(jwt.starts_with(&server.jwt(&token).await) && jwt.ends_with("AAAA"));
    let chunked = server
        .introspect("/introspect?oversized=50000&chunked=1", JSON, &token)
        .await;
    let body = chunked.bytes().await.unwrap();
    assert_eq!(body.len(), 50000);
    assert_eq!(
        serde_json::from_slice::<serde_json::Value>(&body).unwrap()["active"],
        true
    );
}

#[tokio::test]
async fn garbage_is_neither_jwt_nor_json() {
    let server = Server::start();
    let token = server.issue(&[]).await;
    let jwt = server.jwt(&token).await;
    let get = async |kind: &str, accept| {
        let response = server
            .introspect(&format!("/introspect?garbage={kind}"), accept, &token)
            .await;
        assert_eq!(response.status(), 200);
        response.bytes().await.unwrap()
    };
    let noise = get("1", JSON).await;
    assert!(serde_json::from_slice::<serde_json::Value>(&noise).is_err());
    assert!(std::str::from_utf8(&noise).is_err());
    assert!(get("empty", JWT).await.is_empty());
    let text = |body: bytes::Bytes| String::from_utf8(body.to_vec()).unwrap();
    let injected = text(get("crlf", JWT).await);
    assert_eq!(injected.replace("\r\nX-Injected: yes\r\n", ""), jwt);
    assert_ne!(injected, jwt);
    assert_eq!(
        text(get("space", JWT).await).split(' ').collect::<String>(),
        jwt
    );
    assert_eq!(text(get("two_dots_short", JWT).await), jwt.replace('.', ""));
    let wrapped: serde_json::Value = serde_json::from_slice(&get("crlf", JSON).await).unwrap();
    assert_eq!(wrapped["jwt"], injected);
}

#[tokio::test]
async fn close_ends_the_connection_where_it_says() {
    let server = Server::start();
    let token = server.issue(&[]).await;
    assert_eq!(
        server.raw("/introspect?close=before_headers", JWT, &token),
        ""
    );
    let broken = server.raw("/introspect?close=mid_headers", JWT, &token);
    assert!(broken.starts_with("HTTP/1.1 200 OK\r\n") && !broken.contains("\r\n\r\n"));
    let broken = server.raw("/introspect?close=mid_body", JWT, &token);
    let (head, body) = parts(&broken);
    assert!(!body.is_empty() && body.len() < declared_length(head).unwrap());
    let broken = server.raw("/introspect?close=mid_body&chunked=1", JWT, &token);
    assert!(!parts(&broken).1.is_empty() && !broken.ends_with("0\r\n\r\n"));
}

#[tokio::test]
async fn active_false_makes_every_token_inactive_in_the_way_it_says() {
    let server = Server::start();
    let token = server.issue(&[]).await;
    let response = server
        .introspect("/introspect?active_false=json200", JWT, &token)
        .await;
    assert_eq!(response.status(), 200);
    assert_eq!(json(response).await, json!({ "active": false }));
    let response = server
        .introspect("/introspect?active_false=204", JSON, &token)
        .await;
    assert_eq!(response.status(), 204);
    let response = server.raw("/introspect?active_false=204_body", JWT, &token);
    let (head, body) = parts(&response);
    assert!(head.starts_with("HTTP/1.1 204 No Content\r\n"));
    assert_eq!(declared_length(head), Some(body.len()));
    assert_eq!(body, "{\"active\":false}");
}

#[tokio::test]
async fn gzip_bomb_expands_to_that_many_bytes() {
    let server = Server::start();
    let token = server.issue(&[]).await;
    let response = server
        .introspect("/introspect?gzip_bomb=20000000", JWT, &token)
        .await;
    assert_eq!(header(&response, "content-encoding"), Some("gzip"));
    let packed = response.bytes().await.unwrap();
    assert!(packed.len() < 200_000, "{}", packed.len());
    let mut expanded = Vec::new();
    GzDecoder::new(&packed[..])
        .read_to_end(&mut expanded)
        .unwrap();
    assert_eq!(expanded.len(), 20_000_000);
    assert!(expanded.starts_with(server.jwt(&token).await.as_bytes()));
}

#[tokio::test]
async fn slow_drip_goes_on_after_the_answer_is_complete() {
    let server = Server::start();
    let token = server.issue(&[]).await;
    let jwt = server.jwt(&token).await;
    let mut stream = server.raw_introspection("/introspect?slow_drip=1", JWT, &token);
    let mut read = vec![0; jwt.len() * 3];
    stream.read_exact(&mut read).unwrap();
    let read = String::from_utf8(read).unwrap();
    let (head, body) = parts(&read);
    assert_eq!(declared_length(head), None);
    assert!(body.starts_with(&jwt) && body.ends_with("AAAA"));
}

#[tokio::test]
async fn endless_headers_go_on_until_the_bound() {
    let server = Server::start();
    let mut stream = server.raw_introspection("/introspect?endless_headers=1", JWT, "x");
    let mut buffer = vec![0; 1 << 20];
    let (mut length, mut last) = (0, Vec::new());
    loop {
        let count = stream.read(&mut buffer).unwrap();
        last.extend_from_slice(&buffer[..count]);
        assert!(!last.windows(4).any(|window| window == b"\r\n\r\n"));
        last.drain(..last.len().saturating_sub(3));
        length += count;
        if count == 0 {
            break;
        }
    }
    assert!(length > 50_000_000, "{length}");
}

#[tokio::test]
async fn knobs_of_the_server_win_over_those_of_the_url_until_cleared() {
    let server = Server::start();
    let token = server.issue(&[]).await;
    let put = |body: &str| {
        send(
            server
                .client
                .put(server.url("/knobs"))
                .body(body.to_owned()),
        )
    };
    assert_eq!(put(r#"{"status": 500}"#).await.status(), 204);
    let knobs = send(server.client.get(server.url("/knobs"))).await;
    assert_eq!(json(knobs).await, json!({ "status": "500" }));
    let response = server
        .introspect("/introspect?status=404", JWT, &token)
        .await;
    assert_eq!(response.status(), 500);

    let response = put(r#"{"stauts": 500}"#).await;
    assert_eq!(response.status(), 400);
    assert_eq!(
        json(response).await["error_description"],
        "knob stauts: no such knob"
    );
    assert_eq!(
        send(server.client.delete(server.url("/knobs")))
            .await
            .status(),
        204
    );
    assert_eq!(
        server.introspect("/introspect", JWT, &token).await.status(),
        200
    );
    assert_eq!(
        server
            .introspect("/introspect?stauts=500", JWT, &token)
            .await
            .status(),
        400
    );
}

#[tokio::test]
async fn over_http_2_the_knobs_that_exist_there_work_too() {
    let server = Server::start();
    let token = server.issue(&[]).await;
    let jwt = server.jwt(&token).await;
    let client = builder().http2_prior_knowledge().build().unwrap();
    let get = |query: &str| {
        let request = gateway(client.post(server.url(&format!("/introspect?dialect=jwt&{query}"))));
        form(request, &[("token", &token)])
    };
    for query in ["split=5", "chunked=1", "no_length=1"] {
        let response = send(get(query)).await;
        assert_eq!(response.version(), reqwest::Version::HTTP_2);
        assert_eq!(response.text().await.unwrap(), jwt, "{query}");
    }
    assert_eq!(send(get("status=503")).await.status(), 503);
    assert_eq!(
        send(get("oversized=300000"))
            .await
            .bytes()
            .await
            .unwrap()
            .len(),
        300_000
    );
    // The reset may overtake the headers.
    let torn = match get("close=mid_body").send().await {
        Ok(response) => response.bytes().await.map(drop),
        Err(error) => Err(error),
    };
    assert!(torn.is_err());
    for query in [
        "close=before_headers",
        "close=mid_headers",
        "endless_headers=1",
    ] {
        assert!(get(query).send().await.is_err(), "{query}");
    }
    let mut drip = send(get("slow_drip=1")).await;
    let mut length = 0;
    while length < 2 * jwt.len() {
        length += drip.chunk().await.unwrap().unwrap().len();
    }
}

#[tokio::test]
async fn a_client_that_leaves_does_not_disturb_the_next() {
    let server = Server::start();
    let token = server.issue(&[]).await;
    for query in [
        "slow_drip=1",
        "endless_headers=1",
        "oversized=1000000000",
        "latency=50",
    ] {
        drop(server.raw_introspection(&format!("/introspect?{query}"), JWT, &token));
    }
    let mut half = server.connect();
    half.write_all(b"POST /introspect HTTP/1.1\r\nContent-Le")
        .unwrap();
    drop(half);
    server.jwt(&token).await;
}
