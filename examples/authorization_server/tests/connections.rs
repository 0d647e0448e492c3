//! Connections: TLS, HTTP/2, keep-alive, malformed requests, start and end of the process.

mod support;

use std::io::{Read, Write};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use reqwest::{Certificate, Version};
use tempfile::TempDir;

use support::{Server, builder, form, gateway, header, send};

#[tokio::test]
async fn tls_serves_http_1_and_http_2_by_alpn() {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let directory = TempDir::new().unwrap();
    let (certificate, key) = (
        directory.path().join("certificate.pem"),
        directory.path().join("key.pem"),
    );
    std::fs::write(&certificate, cert.pem()).unwrap();
    std::fs::write(&key, signing_key.serialize_pem()).unwrap();
    let options = [
        "--tls-certificate",
        certificate.to_str().unwrap(),
        "--tls-key",
        key.to_str().unwrap(),
    ];
    let server = Server::start_with(&options);
    let port = server.origin.strip_prefix("https://127.0.0.1:").unwrap();

    let trusting =
        || builder().tls_certs_only([Certificate::from_pem(cert.pem().as_bytes()).unwrap()]);
    let cases = [
        (trusting().http1_only(), Version::HTTP_11),
        (trusting(), Version::HTTP_2),
    ];
    for (client, version) in cases {
        let client = client.build().unwrap();
        let request = gateway(client.post(format!("https://localhost:{port}/token")));
        let response = send(form(request, &[("grant_type", "client_credentials")])).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.version(), version);
    }
    let distrusting = builder().build().unwrap();
    assert!(
        distrusting
            .get(format!("https://localhost:{port}/health"))
            .send()
            .await
            .is_err()
    );
}

#[tokio::test]
async fn http_2_with_prior_knowledge_works_on_the_plain_port() {
    let server = Server::start();
    let token = server.issue(&[]).await;
    let client = builder().http2_prior_knowledge().build().unwrap();
    let request = gateway(client.post(server.url("/introspect?dialect=jwt")));
    let response = send(form(request, &[("token", &token)])).await;
    assert_eq!(response.version(), Version::HTTP_2);
    assert_eq!(response.status(), 200);
    assert_eq!(header(&response, "content-type"), Some("application/jwt"));
    assert_eq!(server.stats().await["last_request"]["version"], "HTTP/2.0");
}

#[tokio::test]
async fn an_http_2_preface_in_pieces_is_still_http_2() {
    let server = Server::start();
    let mut stream = server.connect();
    for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" {
        stream.write_all(&[*byte]).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).unwrap();
    let mut frame = [0; 9];
    stream.read_exact(&mut frame).unwrap();
    assert_eq!(frame[3], 4, "the server's SETTINGS frame");
}

/// Sends bytes and returns all that comes back until the server closes.
fn exchange(server: &Server, request: &[u8]) -> String {
    let mut stream = server.connect();
    stream.write_all(request).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response
}

#[test]
fn requests_can_be_pipelined_on_one_connection() {
    let server = Server::start();
    let request =
        b"GET /health HTTP/1.1\r\n\r\nHEAD /health HTTP/1.1\r\n\r\nGET /health HTTP/1.0\r\n\r\n";
    let response = exchange(&server, request);
    assert_eq!(response.matches("HTTP/1.1 200 OK").count(), 3);
    assert_eq!(response.matches("{\"status\":\"ok\"}").count(), 2);
    assert_eq!(response.matches("content-length: 15").count(), 3);
    assert_eq!(response.matches("connection: close").count(), 1);
}

#[test]
fn a_client_that_expects_100_continue_gets_it() {
    let server = Server::start();
    let mut stream = server.connect();
    stream
        .write_all(b"PUT /knobs HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"{}").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    assert!(
        response.starts_with("HTTP/1.1 204 No Content\r\n"),
        "{response}"
    );
}

#[test]
fn requests_that_cannot_be_understood_are_refused_and_the_connection_closed() {
    let server = Server::start();
    let huge = format!("GET / HTTP/1.1\r\nX: {}", "a".repeat(70_000));
    let cases: [(&[u8], &str); 6] = [
        (b"nonsense\r\n\r\n", "400"),
        (b"POST /token HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "400"),
        (
            b"POST /token HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "400",
        ),
        (
            b"POST /token HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "411",
        ),
        (
            b"POST /token HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n",
            "413",
        ),
        (huge.as_bytes(), "431"),
    ];
    for (request, status) in cases {
        let response = exchange(&server, request);
        assert_eq!(response.get(9..12), Some(status), "{response}");
        assert!(response.contains("connection: close"));
    }
}

#[test]
fn the_port_file_names_the_port_once_the_server_listens() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("port");
    let server = Server::start_with(&["--port-file", path.to_str().unwrap()]);
    let port = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        server.origin,
        format!("http://127.0.0.1:{}", port.trim_end())
    );
    assert_eq!(
        std::fs::read_dir(&directory).unwrap().count(),
        1,
        "nothing else is left in the folder"
    );
}

#[test]
fn sigterm_and_sigint_end_the_server_cleanly_whatever_it_is_doing() {
    for signal in ["TERM", "INT"] {
        let server = Server::start();
        let _waiting =
            server.raw_introspection("/introspect?latency=3600000", "application/jwt", "x");
        let _dripping =
            server.raw_introspection("/introspect?slow_drip=10", "application/jwt", "x");
        assert!(server.end_by(signal).success(), "{signal}");
    }
}

#[test]
fn bad_options_end_the_server_with_a_message() {
    let run = |options: &[&str]| {
        let binary = env!("CARGO_BIN_EXE_authorization_server");
        let output = std::process::Command::new(binary)
            .args(options)
            .output()
            .unwrap();
        assert!(!output.status.success(), "{options:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(
        run(&["--client", "nocolon"]).contains("a name and a secret with a colon between them")
    );
    assert!(run(&["--client", "a:b", "--client", "a:c"]).contains("client a is given twice"));
    assert!(run(&["--tls-key", "key.pem"]).contains("--tls-certificate"));
    assert!(
        run(&[
            "--tls-certificate",
            "/absent.pem",
            "--tls-key",
            "/absent.pem"
        ])
        .contains("/absent.pem")
    );
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    assert!(run(&["--listen", &address]).contains(&address));
}
