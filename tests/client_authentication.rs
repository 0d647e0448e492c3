//! Client authentication as the authorization server sees it: rotating secrets, our own access tokens, and the
//! authentication methods in its metadata.

mod support;

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use phantom_token::{
    Client, ClientOptions, Config, Error, ErrorKind, LogLevel, LogSink, Resolution, Token, Verdict,
};
use support::{Call, Reply, Server, bare_jwt, jwt_of, response};
use tempfile::TempDir;

fn resolve(client: &Client, token: &str) -> Result<Resolution, Error> {
    client.resolve(Token::parse(token.as_bytes()).unwrap(), None)
}

fn is_active(client: &Client, token: &str) -> bool {
    matches!(resolve(client, token).unwrap().verdict, Verdict::Active(_))
}

type Lines = Arc<Mutex<Vec<(LogLevel, String)>>>;

fn started(settings: &[(&str, &str)]) -> (Client, Lines) {
    let mut config = Config::new("test");
    config.set("client_id", "gateway").unwrap();
    for (key, value) in settings {
        config.set(key, value).unwrap();
    }
    let lines = Lines::default();
    let sink = Arc::clone(&lines);
    let log: LogSink = Arc::new(move |level, line: &str| {
        sink.lock().unwrap().push((level, line.to_owned()));
    });
    let surroundings = ClientOptions {
        log: Some(log),
        ..ClientOptions::default()
    };
    let client = Client::start_with(config.build().unwrap(), surroundings).unwrap();
    (client, lines)
}

fn said(lines: &Lines, level: LogLevel, part: &str) -> usize {
    let lines = lines.lock().unwrap();
    assert!(lines.iter().all(|(_, line)| !line.contains("s3cr3t")));
    let is_it = |(at, line): &&(LogLevel, String)| *at == level && line.contains(part);
    lines.iter().filter(is_it).count()
}

fn eventually(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(10), "never: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn is_for(call: &Call, path: &str) -> bool {
    call.head.split(' ').nth(1) == Some(path)
}

fn calls_for(server: &Server, path: &str) -> usize {
    let calls = server.calls();
    calls.iter().filter(|call| is_for(call, path)).count()
}

fn unauthorized() -> Reply {
    Reply::Bytes(response(401, &[], ""))
}

/// Accepts the secret that was set last.
#[derive(Clone, Default)]
struct Lock(Arc<Mutex<String>>);

impl Lock {
    fn set(&self, secret: &str) {
        let pair = STANDARD.encode(format!("gateway:{secret}"));
        *self.0.lock().unwrap() = format!("Basic {pair}");
    }

    fn opens(&self, call: &Call) -> bool {
        call.header("authorization") == Some(self.0.lock().unwrap().as_str())
    }

    fn server(&self, latency: Duration) -> Server {
        let lock = self.clone();
        Server::start(move |call| {
            thread::sleep(latency);
            if lock.opens(call) {
                bare_jwt(&jwt_of(&call.token()))
            } else {
                unauthorized()
            }
        })
    }
}

struct Secret(TempDir);

impl Secret {
    fn new(secret: &str) -> Self {
        let file = Secret(TempDir::new().unwrap());
        file.write(secret);
        file
    }

    fn path(&self) -> String {
        self.0.path().join("secret").to_str().unwrap().to_owned()
    }

    fn write(&self, secret: &str) {
        fs::write(self.path(), format!("{secret}\n")).unwrap();
    }
}

#[test]
fn a_secret_that_rotates_is_seen_without_a_reload() {
    let lock = Lock::default();
    lock.set("s3cr3t-1");
    let server = lock.server(Duration::ZERO);
    let file = Secret::new("s3cr3t-1");
    let (client, lines) = started(&[
        ("introspection_endpoint", &server.url()),
        ("client_secret_file", &file.path()),
    ]);
    assert!(is_active(&client, "a"));
    assert_eq!(server.calls().len(), 1);

    lock.set("s3cr3t-2");
    file.write("s3cr3t-2");
    assert!(is_active(&client, "b"));
    assert_eq!(server.calls().len(), 3, "refused once, then let in");
    assert!(is_active(&client, "c"));
    assert_eq!(server.calls().len(), 4);
    assert_eq!(said(&lines, LogLevel::Info, "client_secret_file"), 1);
    assert_eq!(said(&lines, LogLevel::Error, ""), 0);

    // The file is not read all the time, however often the credential is refused.
    lock.set("s3cr3t-3");
    file.write("s3cr3t-3");
    for token in ["d", "e"] {
        let error = resolve(&client, token).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ClientRefused);
    }
    assert_eq!(server.calls().len(), 6);
}

#[test]
fn many_who_are_refused_at_the_same_time_are_all_let_in_with_the_new_secret() {
    let lock = Lock::default();
    lock.set("s3cr3t-2");
    let server = lock.server(Duration::from_millis(100));
    let file = Secret::new("s3cr3t-1");
    let (client, lines) = started(&[
        ("introspection_endpoint", &server.url()),
        ("client_secret_file", &file.path()),
    ]);
    file.write("s3cr3t-2");
    thread::scope(|scope| {
        for number in 0..20 {
            let client = &client;
            scope.spawn(move || assert!(is_active(client, &format!("t{number}"))));
        }
    });
    assert_eq!(said(&lines, LogLevel::Info, "client_secret_file"), 1);
}

#[test]
fn a_file_that_can_be_read_no_more_is_said_and_the_old_secret_goes_on() {
    let lock = Lock::default();
    lock.set("s3cr3t-1");
    let server = lock.server(Duration::ZERO);
    let file = Secret::new("s3cr3t-1");
    let (client, lines) = started(&[
        ("introspection_endpoint", &server.url()),
        ("client_secret_file", &file.path()),
    ]);
    fs::remove_file(file.path()).unwrap();
    lock.set("s3cr3t-2");
    let error = resolve(&client, "a").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ClientRefused);
    assert_eq!(server.calls().len(), 1);
    assert_eq!(said(&lines, LogLevel::Warn, &file.path()), 1);
    assert_eq!(said(&lines, LogLevel::Warn, "cannot be read"), 1);

    lock.set("s3cr3t-1");
    assert!(is_active(&client, "a"));
}

/// Grants numbered tokens, and accepts the one that it granted last.
#[derive(Clone)]
struct Granting {
    granted: Arc<AtomicUsize>,
    expires_in: usize,
    /// The status that the token endpoint returns instead of a token, unless it is 0.
    status: Arc<AtomicUsize>,
}

impl Granting {
    fn new(expires_in: usize) -> Self {
        Granting {
            granted: Arc::default(),
            expires_in,
            status: Arc::default(),
        }
    }

    fn server(&self) -> Server {
        let granting = self.clone();
        Server::start(move |call| granting.answer(call))
    }

    fn answer(&self, call: &Call) -> Reply {
        if is_for(call, "/token") {
            thread::sleep(Duration::from_millis(100));
            let status = self.status.load(Ordering::SeqCst);
            if status != 0 {
                return Reply::Bytes(response(u16::try_from(status).unwrap(), &[], ""));
            }
            let number = self.granted.fetch_add(1, Ordering::SeqCst) + 1;
            let body = format!(
                r#"{{"access_token":"s3cr3t-{number}","token_type":"bearer","expires_in":{}}}"#,
                self.expires_in
            );
            return Reply::Bytes(response(200, &[], &body));
        }
        let number = self.granted.load(Ordering::SeqCst);
        // The previous token is still valid while the last one is on its way to the client.
        let is_good = [number, number.wrapping_sub(1)]
            .iter()
            .any(|number| call.header("authorization") == Some(&format!("Bearer s3cr3t-{number}")));
        if is_good {
            bare_jwt(&jwt_of(&call.token()))
        } else {
            unauthorized()
        }
    }

    fn client(&self, server: &Server) -> (Client, Lines) {
        started(&[
            ("introspection_endpoint", &server.url()),
            (
                "token_endpoint",
                &format!("http://{}/token", server.address),
            ),
            ("client_secret", "s3cr3t"),
            ("client_auth", "client_credentials"),
            ("client_credentials_scope", "introspect"),
            ("max_fails", "0"),
        ])
    }
}

#[test]
fn an_access_token_of_our_own_is_fetched_once_for_all_who_wait_for_it() {
    let granting = Granting::new(3600);
    let server = granting.server();
    let (client, _) = granting.client(&server);
    thread::scope(|scope| {
        for number in 0..20 {
            let client = &client;
            scope.spawn(move || assert!(is_active(client, &format!("t{number}"))));
        }
    });
    assert_eq!(calls_for(&server, "/token"), 1);
    assert_eq!(calls_for(&server, "/introspect"), 20);
    let fetch = &server.calls()[0];
    assert_eq!(fetch.body, "grant_type=client_credentials&scope=introspect");
    let pair = STANDARD.encode("gateway:s3cr3t");
    assert_eq!(
        fetch.header("authorization"),
        Some(&*format!("Basic {pair}"))
    );
}

#[test]
fn an_access_token_of_our_own_is_refreshed_before_it_ends_and_nobody_notices() {
    let granting = Granting::new(2);
    let server = granting.server();
    let (client, lines) = granting.client(&server);
    let count = AtomicUsize::new(0);
    eventually("a third token", || {
        let number = count.fetch_add(1, Ordering::SeqCst);
        assert!(is_active(&client, &format!("t{number}")));
        granting.granted.load(Ordering::SeqCst) >= 3
    });
    assert_eq!(said(&lines, LogLevel::Error, ""), 0);
    let introspections = count.load(Ordering::SeqCst);
    assert_eq!(
        calls_for(&server, "/introspect"),
        introspections,
        "none was refused"
    );
}

#[test]
fn an_access_token_that_is_refused_is_fetched_anew_once() {
    let granting = Granting::new(3600);
    let server = granting.server();
    let (client, _) = granting.client(&server);
    assert!(is_active(&client, "a"));
    // The server has forgotten all tokens that it granted.
    granting.granted.store(10, Ordering::SeqCst);
    assert!(is_active(&client, "b"));
    assert_eq!(calls_for(&server, "/token"), 2);
    granting.granted.store(20, Ordering::SeqCst);
    for token in ["c", "d"] {
        let error = resolve(&client, token).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ClientRefused);
        assert!(error.message().contains("client_credentials"), "{error}");
    }
    assert_eq!(calls_for(&server, "/token"), 2, "not all the time");
}

#[test]
fn while_the_token_endpoint_fails_the_token_that_there_is_goes_on() {
    let granting = Granting::new(3);
    let server = granting.server();
    let (client, lines) = granting.client(&server);
    assert!(is_active(&client, "first"));
    let start = Instant::now();
    granting.status.store(500, Ordering::SeqCst);
    let count = AtomicUsize::new(0);
    let error = Mutex::new(None);
    eventually("an end", || {
        let number = count.fetch_add(1, Ordering::SeqCst);
        *error.lock().unwrap() = resolve(&client, &format!("t{number}")).err();
        error.lock().unwrap().is_some()
    });
    assert!(start.elapsed() > Duration::from_millis(2500), "at once");
    let error = error.into_inner().unwrap().unwrap();
    assert!(error.message().contains("token endpoint at"), "{error}");
    assert!(said(&lines, LogLevel::Error, "token endpoint at") >= 1);
    granting.status.store(0, Ordering::SeqCst);
    assert!(is_active(&client, "last"));
}

#[test]
fn those_who_wait_for_a_token_that_is_not_granted_share_the_refusal() {
    let granting = Granting::new(3600);
    granting.status.store(401, Ordering::SeqCst);
    let server = granting.server();
    let (client, _) = granting.client(&server);
    thread::scope(|scope| {
        for number in 0..20 {
            let client = &client;
            scope.spawn(move || {
                let error = resolve(client, &format!("t{number}")).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::ClientRefused);
            });
        }
    });
    assert!(calls_for(&server, "/token") <= 3, "each for itself");
    assert_eq!(calls_for(&server, "/introspect"), 0);
}

#[test]
fn metadata_says_how_we_authenticate() {
    let lists = Arc::new(Mutex::new("client_secret_post"));
    let listed = Arc::clone(&lists);
    let server = Server::start(move |call| {
        if !call.head.starts_with("GET") {
            return bare_jwt(&jwt_of(&call.token()));
        }
        let origin = format!("http://{}", call.header("host").unwrap());
        let body = format!(
            r#"{{"issuer":"{origin}","introspection_endpoint":"{origin}/introspect",
                "introspection_endpoint_auth_methods_supported":["{}"]}}"#,
            listed.lock().unwrap()
        );
        Reply::Bytes(response(200, &[], &body))
    });
    let issuer = format!("http://{}", server.address);
    let last = || server.calls().pop().unwrap();

    let (client, lines) = started(&[("issuer", &issuer), ("client_secret", "s3cr3t")]);
    assert!(is_active(&client, "a"));
    assert!(
        last()
            .body
            .ends_with("&client_id=gateway&client_secret=s3cr3t")
    );
    assert_eq!(said(&lines, LogLevel::Warn, ""), 0);

    *lists.lock().unwrap() = "private_key_jwt";
    let (client, lines) = started(&[("issuer", &issuer), ("client_secret", "s3cr3t")]);
    assert!(is_active(&client, "a"));
    assert!(
        last()
            .header("authorization")
            .unwrap()
            .starts_with("Basic ")
    );
    assert_eq!(said(&lines, LogLevel::Warn, "lists"), 1);
}
