//! Discovery: a provider for which only the issuer is set.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use phantom_token::{Client, Config, ErrorKind};
use support::{Call, Reply, Server, bare_jwt, jwt_of, resolve, response, subject};

/// A server that publishes metadata under `path`, written by the test, and introspects at `/check`.
struct Issuer {
    server: Server,
    /// The status of metadata requests that would succeed; 0 for 200.
    status: Arc<AtomicU16>,
    fetched: Arc<AtomicUsize>,
}

impl Issuer {
    fn start(
        well_known: &'static str,
        metadata: impl Fn(&str) -> String + Send + Sync + 'static,
    ) -> Self {
        let status = Arc::new(AtomicU16::new(0));
        let fetched = Arc::new(AtomicUsize::new(0));
        let (says, count) = (Arc::clone(&status), Arc::clone(&fetched));
        let server = Server::start(move |call| answer(call, well_known, &metadata, &says, &count));
        Issuer {
            server,
            status,
            fetched,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.address)
    }

    fn client(&self, path: &str, settings: &[(&str, &str)]) -> Client {
        let mut config = Config::new("test");
        config.set("issuer", &self.url(path)).unwrap();
        for (key, value) in settings {
            config.set(key, value).unwrap();
        }
        Client::start(config.build().unwrap()).unwrap()
    }

    fn paths(&self) -> Vec<String> {
        let calls = self.server.calls();
        calls
            .iter()
            .map(|call| call.head.lines().next().unwrap_or_default().to_owned())
            .collect()
    }
}

fn answer(
    call: &Call,
    well_known: &str,
    metadata: &dyn Fn(&str) -> String,
    status: &AtomicU16,
    fetched: &AtomicUsize,
) -> Reply {
    let line = call.head.lines().next().unwrap_or_default();
    if line.starts_with("POST /check ") {
        return bare_jwt(&jwt_of(&call.token()));
    }
    if line != format!("GET {well_known} HTTP/1.1") {
        return Reply::Bytes(response(404, &[], ""));
    }
    fetched.fetch_add(1, Ordering::SeqCst);
    match status.load(Ordering::SeqCst) {
        0 => {
            let host = format!("http://{}", call.header("host").unwrap_or_default());
            let headers = [("Content-Type", "application/json")];
            Reply::Bytes(response(200, &headers, &metadata(&host)))
        }
        status => Reply::Bytes(response(status, &[("Location", "/check")], "")),
    }
}

fn document(issuer: &str, host: &str) -> String {
    format!(r#"{{"issuer":"{issuer}","introspection_endpoint":"{host}/check"}}"#)
}

#[test]
fn the_issuer_alone_is_enough_wherever_its_metadata_is() {
    for (path, place) in [
        ("", "/.well-known/oauth-authorization-server"),
        ("/", "/.well-known/oauth-authorization-server"),
        ("/a/b", "/.well-known/oauth-authorization-server/a/b"),
        ("", "/.well-known/openid-configuration"),
        ("/a/b", "/a/b/.well-known/openid-configuration"),
    ] {
        let issuer = Issuer::start(place, move |host| document(&format!("{host}{path}"), host));
        let client = issuer.client(path, &[]);
        assert_eq!(subject(&resolve(&client, "t").unwrap()), "t", "{place}");
        for number in 0..10 {
            resolve(&client, &format!("t{number}")).unwrap();
        }
        assert_eq!(
            issuer.fetched.load(Ordering::SeqCst),
            1,
            "once, not for each token"
        );
    }
}

#[test]
fn a_request_that_comes_before_the_metadata_waits_for_it_and_no_longer_than_it_may() {
    let issuer = Issuer::start("/.well-known/oauth-authorization-server", |host| {
        document(host, host)
    });
    issuer.status.store(503, Ordering::SeqCst);
    let client = issuer.client("", &[("timeout", "10s")]);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| subject(&resolve(&client, "early").unwrap()));
        thread::sleep(Duration::from_millis(300));
        issuer.status.store(0, Ordering::SeqCst);
        assert_eq!(waiting.join().unwrap(), "early");
    });

    let issuer = Issuer::start("/.well-known/oauth-authorization-server", |host| {
        document(host, host)
    });
    issuer.status.store(404, Ordering::SeqCst);
    let client = issuer.client("", &[("timeout", "300ms")]);
    let started = Instant::now();
    let error = resolve(&client, "t").unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(3));
    assert_eq!(error.kind(), ErrorKind::BadAnswer);
    assert!(
        error
            .message()
            .contains("check issuer, or set introspection_endpoint"),
        "{error}"
    );
}

#[test]
fn metadata_of_another_issuer_or_without_an_endpoint_is_refused_in_words() {
    type Document = fn(&str) -> String;
    let cases: [(Document, &str); 4] = [
        (
            |host| document("https://other.example.com", host),
            "https://other.example.com",
        ),
        (
            |host| document(&format!("{host}/"), host),
            "set issuer to exactly that",
        ),
        (
            |host| format!(r#"{{"issuer":"{host}"}}"#),
            "names no introspection endpoint",
        ),
        (|_| "<html>".to_owned(), "not a JSON object"),
    ];
    for (metadata, expected) in cases {
        let issuer = Issuer::start("/.well-known/oauth-authorization-server", metadata);
        let client = issuer.client("", &[("timeout", "300ms")]);
        let error = resolve(&client, "t").unwrap_err();
        assert_eq!(error.kind().http_status(), 502);
        assert!(error.message().contains(expected), "{error}");
    }
}

#[test]
fn a_redirect_is_not_followed() {
    let issuer = Issuer::start("/.well-known/oauth-authorization-server", |host| {
        document(host, host)
    });
    issuer.status.store(302, Ordering::SeqCst);
    let client = issuer.client("", &[("timeout", "300ms")]);
    assert!(resolve(&client, "t").is_err());
    assert!(
        issuer
            .paths()
            .iter()
            .all(|line| line.starts_with("GET /.well-known/"))
    );
}

#[test]
fn what_is_set_goes_before_what_the_metadata_says_and_does_not_wait_for_it() {
    let elsewhere = Server::start(|call| bare_jwt(&jwt_of(&format!("{}-elsewhere", call.token()))));
    let issuer = Issuer::start("/.well-known/oauth-authorization-server", |host| {
        document(host, host)
    });
    issuer.status.store(503, Ordering::SeqCst);
    let client = issuer.client("", &[("introspection_endpoint", &elsewhere.url())]);
    assert_eq!(subject(&resolve(&client, "a").unwrap()), "a-elsewhere");
    issuer.status.store(0, Ordering::SeqCst);
    thread::sleep(Duration::from_millis(700));
    assert_eq!(subject(&resolve(&client, "b").unwrap()), "b-elsewhere");
}

/// If the issuer publishes no metadata, requests fail at once after two attempts, with an error of the right kind. The
/// metadata is fetched again in the background.
#[test]
fn an_issuer_without_metadata_fails_requests_at_once_until_it_has_some() {
    let unused = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let issuer = Issuer::start("/.well-known/oauth-authorization-server", |host| {
        document(host, host)
    });
    issuer.status.store(404, Ordering::SeqCst);
    for (url, kind) in [
        (issuer.url(""), ErrorKind::BadAnswer),
        (format!("http://{unused}"), ErrorKind::Unreachable),
    ] {
        let mut config = Config::new("test");
        config.set("issuer", &url).unwrap();
        config.set("timeout", "1m").unwrap();
        let client = Client::start(config.build().unwrap()).unwrap();
        let started = Instant::now();
        for number in 0..50 {
            let error = resolve(&client, &format!("t{number}")).unwrap_err();
            assert_eq!(error.kind(), kind, "{error}");
            assert_eq!(error.kind().http_status(), 502);
        }
        assert!(started.elapsed() < Duration::from_secs(30));
    }

    let client = issuer.client("", &[("timeout", "1m")]);
    resolve(&client, "t").unwrap_err();
    let fetched = issuer.fetched.load(Ordering::SeqCst);
    for number in 0..500 {
        resolve(&client, &format!("u{number}")).unwrap_err();
    }
    let more = issuer.fetched.load(Ordering::SeqCst) - fetched;
    assert!(more < 20, "with pauses, not for each token: {more}");
    issuer.status.store(0, Ordering::SeqCst);
    let started = Instant::now();
    while resolve(&client, "t").is_err() {
        assert!(started.elapsed() < Duration::from_secs(60));
        thread::sleep(Duration::from_millis(20));
    }
}
