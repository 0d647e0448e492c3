//! Failures of the authorization server through the Rust API: outage, slowness, recovery, stale and refreshed entries.

mod support;

use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use phantom_token::{CacheStatus, Client, ClientOptions, Error, ErrorKind, LogLevel, LogSink};
use support::{
    Call, Reply, Server, bare_jwt, config, jwt, jwt_of, resolve, response, subject, token,
};

/// Answers with a JWT whose subject counts the calls, until a test sets a status other than 200.
#[derive(Clone, Default)]
struct Knob {
    status: Arc<AtomicU16>,
    exp: Arc<AtomicUsize>,
    calls: Arc<AtomicUsize>,
}

impl Knob {
    fn server(&self) -> Server {
        let knob = self.clone();
        Server::start(move |call| knob.answer(call))
    }

    fn answer(&self, _: &Call) -> Reply {
        let count = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        match self.status.load(Ordering::SeqCst) {
            0 => {
                let exp = match self.exp.load(Ordering::SeqCst) {
                    0 => String::new(),
                    exp => format!(r#","exp":{exp}"#),
                };
                bare_jwt(&jwt(&format!(r#"{{"sub":"call-{count}"{exp}}}"#)))
            }
            status => Reply::Bytes(response(status, &[], "")),
        }
    }

    fn fail_with(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    fn recover(&self) {
        self.fail_with(0);
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

type Lines = Arc<Mutex<Vec<(LogLevel, String)>>>;

fn logging(provider: Arc<phantom_token::Provider>) -> (Client, Lines) {
    let lines = Lines::default();
    let sink = Arc::clone(&lines);
    let log: LogSink = Arc::new(move |level, line: &str| {
        sink.lock().unwrap().push((level, line.to_owned()));
    });
    let surroundings = ClientOptions {
        log: Some(log),
        ..ClientOptions::default()
    };
    (Client::start_with(provider, surroundings).unwrap(), lines)
}

fn count(lines: &Lines, part: &str) -> usize {
    let lines = lines.lock().unwrap();
    lines.iter().filter(|(_, line)| line.contains(part)).count()
}

fn eventually(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(10), "never: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn unix_now() -> usize {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    usize::try_from(now.as_secs()).unwrap()
}

#[test]
fn a_hit_in_the_last_part_of_an_entrys_life_is_served_at_once_and_asks_anew_once() {
    let knob = Knob::default();
    let server = knob.server();
    let client = server.client(&[("cache_ttl", "2s"), ("refresh_ahead", "75%")]);
    assert_eq!(subject(&resolve(&client, "t").unwrap()), "call-1");
    for _ in 0..10 {
        assert_eq!(subject(&resolve(&client, "t").unwrap()), "call-1");
    }
    assert_eq!(knob.calls(), 1, "too early");
    thread::sleep(Duration::from_millis(600));
    let hit = resolve(&client, "t").unwrap();
    assert_eq!(
        (subject(&hit).as_str(), hit.cache),
        ("call-1", CacheStatus::Hit)
    );
    for _ in 0..100 {
        assert_eq!(resolve(&client, "t").unwrap().cache, CacheStatus::Hit);
    }
    eventually("the new verdict", || {
        let hit = resolve(&client, "t").unwrap();
        assert_eq!(hit.cache, CacheStatus::Hit);
        subject(&hit) == "call-2"
    });
    assert_eq!(knob.calls(), 2);
    assert_eq!(client.stats().refreshes, 1);
}

#[test]
fn a_refresh_that_fails_harms_nobody() {
    let knob = Knob::default();
    let server = knob.server();
    let client = server.client(&[("cache_ttl", "2s"), ("refresh_ahead", "75%")]);
    resolve(&client, "t").unwrap();
    knob.fail_with(500);
    thread::sleep(Duration::from_millis(600));
    resolve(&client, "t").unwrap();
    eventually("the refresh", || knob.calls() >= 2);
    let hit = resolve(&client, "t").unwrap();
    assert_eq!(
        (subject(&hit).as_str(), hit.cache),
        ("call-1", CacheStatus::Hit)
    );
}

#[test]
fn what_is_past_its_time_is_served_while_the_authorization_server_cannot_be_asked() {
    for status in [500, 502, 503, 429] {
        let knob = Knob::default();
        let server = knob.server();
        let client = server.client(&[("cache_ttl", "300ms"), ("stale_if_error", "1m")]);
        resolve(&client, "t").unwrap();
        knob.fail_with(status);
        thread::sleep(Duration::from_millis(400));
        let stale = resolve(&client, "t").unwrap();
        assert_eq!(
            (subject(&stale).as_str(), stale.cache),
            ("call-1", CacheStatus::Stale)
        );
        assert_eq!(client.stats().stale, 1);
        assert!(
            resolve(&client, "another").is_err(),
            "nothing is known of it"
        );
        knob.recover();
        let fresh = resolve(&client, "t").unwrap();
        assert_eq!(fresh.cache, CacheStatus::Miss, "{status}");
        assert_ne!(subject(&fresh), "call-1");
    }
}

#[test]
fn stale_is_served_neither_without_leave_nor_past_exp_nor_for_an_answer_that_cannot_be_used() {
    // Without `stale_if_error`.
    let knob = Knob::default();
    let server = knob.server();
    let client = server.client(&[("cache_ttl", "200ms")]);
    resolve(&client, "t").unwrap();
    knob.fail_with(500);
    thread::sleep(Duration::from_millis(300));
    assert!(resolve(&client, "t").is_err());

    // After `exp`.
    let knob = Knob::default();
    knob.exp.store(unix_now() + 2, Ordering::SeqCst);
    let server = knob.server();
    let client = server.client(&[
        ("cache_ttl", "200ms"),
        ("stale_if_error", "1m"),
        ("max_fails", "0"),
    ]);
    resolve(&client, "t").unwrap();
    knob.fail_with(500);
    thread::sleep(Duration::from_millis(300));
    assert_eq!(resolve(&client, "t").unwrap().cache, CacheStatus::Stale);
    thread::sleep(Duration::from_millis(2200));
    assert_eq!(
        resolve(&client, "t").unwrap_err().http_status_of_kind(),
        502
    );

    // For an answer that shows a configuration error.
    for status in [401, 403, 404, 302] {
        let knob = Knob::default();
        let server = knob.server();
        let client = server.client(&[("cache_ttl", "200ms"), ("stale_if_error", "1m")]);
        resolve(&client, "t").unwrap();
        knob.fail_with(status);
        thread::sleep(Duration::from_millis(300));
        assert!(resolve(&client, "t").is_err(), "{status}");
    }
}

#[test]
fn the_last_error_of_each_kind_is_known_also_when_something_older_was_served_instead() {
    let knob = Knob::default();
    let server = knob.server();
    let client = server.client(&[
        ("cache_ttl", "200ms"),
        ("stale_if_error", "1m"),
        ("max_fails", "0"),
        ("retries", "0"),
    ]);
    assert!(client.last_errors().iter().all(Option::is_none));
    resolve(&client, "t").unwrap();
    knob.fail_with(503);
    thread::sleep(Duration::from_millis(300));
    assert_eq!(resolve(&client, "t").unwrap().cache, CacheStatus::Stale);
    let last = &client.last_errors()[ErrorKind::Busy.index()];
    let last = last.as_ref().expect("it was busy");
    assert!(last.at.abs_diff(i64::try_from(unix_now()).unwrap()) <= 10);
    assert!(last.message.contains("503"), "{}", last.message);
    assert_eq!(
        client.stats().errors[ErrorKind::Busy.index()],
        0,
        "no request failed"
    );

    let error = resolve(&client, "u").unwrap_err();
    let last = client.last_errors()[error.kind().index()].clone().unwrap();
    assert_eq!(*last.message, *error.message());
    let seen = client.last_errors().iter().flatten().count();
    assert_eq!(seen, 1);
}

trait Status {
    fn http_status_of_kind(&self) -> u16;
}

impl Status for Error {
    fn http_status_of_kind(&self) -> u16 {
        self.kind().http_status()
    }
}

#[test]
fn a_purged_token_is_not_served_stale() {
    let knob = Knob::default();
    let server = knob.server();
    let client = server.client(&[("cache_ttl", "200ms"), ("stale_if_error", "1m")]);
    resolve(&client, "t").unwrap();
    thread::sleep(Duration::from_millis(300));
    client.purge(token("t")).unwrap();
    knob.fail_with(500);
    assert!(resolve(&client, "t").is_err());
}

/// An address without a listener.
fn unused() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// When connections fail, calls stop after `max_fails`. Requests then fail at once until a probe succeeds.
#[test]
fn without_connections_calls_stop_until_one_probe_succeeds() {
    let address = unused();
    let mut config = config(&format!("http://{address}/introspect"));
    for (key, value) in [
        ("max_fails", "3"),
        ("fail_timeout", "400ms"),
        ("retries", "0"),
    ] {
        config.set(key, value).unwrap();
    }
    let (client, lines) = logging(config.build().unwrap());
    for number in 0..3 {
        let error = resolve(&client, &format!("t{number}")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreachable);
    }
    for number in 0..200 {
        let error = resolve(&client, &format!("u{number}")).unwrap_err();
        if error.kind() == ErrorKind::Unreachable {
            // A probe, on a slow machine.
            continue;
        }
        assert_eq!(error.kind(), ErrorKind::CircuitOpen);
        assert_eq!(error.kind().http_status(), 503);
        assert!(error.retry_after().unwrap() <= Duration::from_secs(60));
    }
    let calls = client.stats().calls;
    assert!(calls < 10, "{calls}");
    assert_eq!(client.stats().breaker_open, 1);

    let knob = Knob::default();
    let server = Server::start_at(address, {
        let knob = knob.clone();
        move |call| knob.answer(call)
    });
    eventually("an answer", || resolve(&client, "w").is_ok());
    assert_eq!(knob.calls(), 1, "one probe");
    for number in 0..10 {
        resolve(&client, &format!("x{number}")).unwrap();
    }
    assert_eq!(client.stats().breaker_open, 0);
    assert_eq!(count(&lines, "3 calls in a row have failed"), 1);
    assert_eq!(count(&lines, "answers again"), 1);
    drop(server);
}

/// A server that fails on all tokens, with any error, soon receives hardly any calls, however many tokens are
/// presented. One answer ends that.
#[test]
fn a_server_that_fails_on_every_token_is_left_alone() {
    for status in [500, 503, 429] {
        let knob = Knob::default();
        let server = knob.server();
        let settings = [("max_fails", "1"), ("fail_timeout", "8s"), ("retries", "0")];
        let (client, lines) = logging(server.provider(&settings));
        resolve(&client, "before").unwrap();
        knob.fail_with(status);
        let started = Instant::now();
        let mut refused = 0;
        for number in 0..600 {
            let error = resolve(&client, &format!("t{number}")).unwrap_err();
            if error.kind() == ErrorKind::CircuitOpen {
                assert!(error.retry_after().unwrap() <= Duration::from_secs(10));
                refused += 1;
            }
        }
        // 20 calls until the circuit breaker opens, 10 at once, and 20 in 8 seconds.
        let spread = usize::try_from(started.elapsed().as_millis() / 400).unwrap();
        let calls = knob.calls() - 1;
        assert!(
            (30..=31 + spread).contains(&calls),
            "{status}: {calls}, {spread}"
        );
        assert_eq!(refused + calls, 600);
        assert_eq!(client.stats().breaker_open, 1);
        assert_eq!(count(&lines, "for many different tokens"), 1);

        knob.recover();
        eventually("an answer", || resolve(&client, "after").is_ok());
        (0..50).for_each(|number| drop(resolve(&client, &format!("x{number}")).unwrap()));
        assert_eq!(client.stats().breaker_open, 0);
        assert_eq!(count(&lines, "answers again"), 1);
    }
}

/// A server that fails on unknown tokens, in this way.
fn fails_on_junk(how: &'static str) -> Server {
    Server::start(move |call| {
        let token = call.token();
        match how {
            _ if token.starts_with("good") => bare_jwt(&jwt_of(&token)),
            "reset" => Reply::BytesThenClose(Vec::new()),
            "cut off" => {
                Reply::BytesThenClose(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\ney".to_vec())
            }
            "stall" => Reply::Silence,
            "503 later" => Reply::Bytes(response(503, &[("Retry-After", "30")], "")),
            "429 later" => Reply::Bytes(response(429, &[("Retry-After", "3600")], "")),
            status => Reply::Bytes(response(status.parse().unwrap(), &[], "")),
        }
    })
}

const FAILINGS: [&str; 9] = [
    "500",
    "502",
    "429",
    "503",
    "504",
    "503 later",
    "429 later",
    "reset",
    "cut off",
];

/// The server fails on unknown tokens. Clients that send such tokens, five or thirty for each good one, do not make any
/// good token fail.
#[test]
fn junk_that_the_server_fails_on_costs_good_tokens_nothing() {
    for how in FAILINGS {
        let server = fails_on_junk(how);
        let client = server.client(&[]);
        for number in 0..60 {
            let junk = if number % 10 == 0 { 30 } else { 5 };
            for nth in 0..junk {
                resolve(&client, &format!("junk-{number}-{nth}")).unwrap_err();
            }
            let good = format!("good-{number}");
            assert_eq!(subject(&resolve(&client, &good).unwrap()), good, "{how}");
        }
        assert_eq!(client.stats().breaker_openings, 0, "{how}");
    }
}

/// Only unknown tokens came for a long time, so that the circuit breaker is open. Even then one such token before each
/// good one harms no good token.
#[test]
fn junk_before_each_good_token_harms_none_while_the_server_is_in_doubt() {
    for how in FAILINGS {
        let server = fails_on_junk(how);
        let client = server.client(&[]);
        for number in 0..110 {
            resolve(&client, &format!("flood-{number}")).unwrap_err();
        }
        assert_eq!(client.stats().breaker_open, 1, "{how}");
        for number in 0..40 {
            resolve(&client, &format!("junk-{number}")).unwrap_err();
            resolve(&client, &format!("good-{number}")).unwrap();
        }
        assert_eq!(client.stats().breaker_open, 0, "{how}");
    }
}

/// As long as `max_concurrent` is not reached, a server that never answers about unknown tokens does not delay good
/// tokens.
#[test]
fn junk_that_the_server_stalls_on_costs_good_tokens_nothing() {
    let server = fails_on_junk("stall");
    let client = server.client(&[("timeout", "2s"), ("max_concurrent", "64")]);
    let queue = phantom_token::CompletionQueue::new().unwrap();
    for round in 0..6 {
        for number in 0..50 {
            let junk = format!("junk-{round}-{number}");
            client.submit(token(&junk), &queue, 0);
        }
        for number in 0..10 {
            resolve(&client, &format!("good-{round}-{number}")).unwrap();
        }
        eventually("the end of what stalls", || client.stats().in_flight == 0);
    }
    assert_eq!(client.stats().breaker_openings, 0);
    assert_eq!(client.stats().errors[ErrorKind::Timeout.index()], 300);
}

/// A client repeats one token on which the server fails. The token causes a few calls, and other clients are not
/// affected.
#[test]
fn one_token_that_fails_again_and_again_costs_hardly_any_calls() {
    for how in ["500", "429", "reset"] {
        let server = fails_on_junk(how);
        let client = server.client(&[("fail_timeout", "1m"), ("retries", "0")]);
        let first = resolve(&client, "junk").unwrap_err();
        for _ in 0..300 {
            let error = resolve(&client, "junk").unwrap_err();
            assert_eq!(error.kind(), first.kind(), "{how}");
        }
        assert!(
            resolve(&client, "junk")
                .unwrap_err()
                .retry_after()
                .is_some()
        );
        let calls = server.calls().len();
        assert!(calls <= 4, "{how}: {calls}");
        resolve(&client, "good").unwrap();
        assert_eq!(client.stats().breaker_openings, 0);
    }
}

/// Retries after a lost connection have a budget: unknown tokens do not double the calls.
#[test]
fn junk_does_not_multiply_calls() {
    let server = fails_on_junk("reset");
    let client = server.client(&[("retries", "3")]);
    for number in 0..900 {
        resolve(&client, &format!("junk-{number}")).unwrap_err();
        if number % 30 == 0 {
            resolve(&client, &format!("good-{number}")).unwrap();
        }
    }
    // A saved budget of 100 retries, one more for each answer, and one for each second.
    let retries = client.stats().retries;
    assert!((100..200).contains(&retries), "{retries}");
    assert!(server.calls().len() <= 930 + 200);
}

/// A few failures are enough to open the circuit breaker if the server has called the tokens active before. When the
/// server answers again, a cached one of these tokens detects that, though no client sends any other token.
#[test]
fn known_tokens_tell_that_the_server_fails_and_that_it_answers_again() {
    let knob = Knob::default();
    let server = knob.server();
    let client = server.client(&[
        ("max_fails", "1"),
        ("fail_timeout", "1s"),
        ("cache_ttl", "1s"),
        ("cache_control", "ignore"),
    ]);
    for number in 0..30 {
        resolve(&client, &format!("t{number}")).unwrap();
    }
    thread::sleep(Duration::from_millis(1100));
    resolve(&client, "remembered").unwrap();
    knob.fail_with(500);
    let failed = (0..30)
        .take_while(|number| {
            let error = resolve(&client, &format!("t{number}")).unwrap_err();
            error.kind() != ErrorKind::CircuitOpen
        })
        .count();
    // 4 calls until the circuit breaker opens, where unknown tokens would have needed 20, and 10 probes.
    assert!((14..20).contains(&failed), "{failed}");
    knob.recover();
    let calls = knob.calls();
    eventually("a call for what is remembered, or its end", || {
        let hit = client.lookup(token("remembered")).unwrap();
        knob.calls() > calls || hit.is_none()
    });
    if knob.calls() > calls {
        eventually("an end of doubt", || client.stats().breaker_open == 0);
    }
}

#[test]
fn while_calls_are_stopped_what_is_past_its_time_is_served_at_once() {
    let knob = Knob::default();
    let address = unused();
    let server = Server::start_at(address, {
        let knob = knob.clone();
        move |call| knob.answer(call)
    });
    let client = server.client(&[
        ("max_fails", "1"),
        ("fail_timeout", "1h"),
        ("cache_ttl", "200ms"),
        ("stale_if_error", "1m"),
    ]);
    resolve(&client, "t").unwrap();
    knob.fail_with(503);
    for number in 0..100 {
        resolve(&client, &format!("other-{number}")).unwrap_err();
    }
    assert_eq!(client.stats().breaker_open, 1);
    thread::sleep(Duration::from_millis(300));
    // Known tokens have 10 calls of their own.
    for _ in 0..20 {
        assert_eq!(resolve(&client, "t").unwrap().cache, CacheStatus::Stale);
    }
    let calls = knob.calls();
    assert_eq!(resolve(&client, "t").unwrap().cache, CacheStatus::Stale);
    assert_eq!(knob.calls(), calls);
}

#[test]
fn refused_credentials_and_unusable_answers_stop_no_calls() {
    let knob = Knob::default();
    let server = knob.server();
    let client = server.client(&[("max_fails", "1")]);
    for status in [401, 404, 302, 401] {
        knob.fail_with(status);
        assert_ne!(
            resolve(&client, "t").unwrap_err().kind(),
            ErrorKind::CircuitOpen
        );
    }
    assert_eq!(client.stats().breaker_openings, 0);
}

#[test]
fn another_address_is_asked_when_one_fails_and_the_one_that_failed_goes_last() {
    let (first, second) = (Knob::default(), Knob::default());
    let (one, two) = (first.server(), second.server());
    let endpoints = format!("{} {}", one.url(), two.url());
    let mut config = config(&endpoints);
    config.set("fail_timeout", "1m").unwrap();
    let (client, lines) = logging(config.build().unwrap());

    resolve(&client, "a").unwrap();
    assert_eq!((first.calls(), second.calls()), (1, 0), "in their order");
    first.fail_with(503);
    resolve(&client, "b").unwrap();
    assert_eq!((first.calls(), second.calls()), (2, 1));
    for number in 0..20 {
        resolve(&client, &format!("c{number}")).unwrap();
    }
    assert_eq!((first.calls(), second.calls()), (2, 21), "it goes last");
    assert_eq!(count(&lines, "are asked before this one"), 1);

    // All addresses fail: all are tried, and the last error is returned. It is not known whether the second fails
    // because of the token.
    second.fail_with(500);
    let error = resolve(&client, "d").unwrap_err();
    assert!(error.message().contains("(503)"), "{error}");
    assert_eq!((first.calls(), second.calls()), (3, 22));

    first.recover();
    resolve(&client, "e").unwrap();
    assert_eq!(count(&lines, "it answers again"), 1);
    assert_eq!(count(&lines, "are asked before this one"), 2);
    assert_eq!((first.calls(), second.calls()), (4, 23));
    resolve(&client, "f").unwrap();
    assert_eq!((first.calls(), second.calls()), (5, 23));
}

/// An address moves to the end of the order when another one answers for the same token. A token on which all addresses
/// fail changes no order.
#[test]
fn junk_does_not_change_which_address_is_asked_first() {
    let (one, two) = (fails_on_junk("500"), fails_on_junk("500"));
    let mut config = config(&format!("{} {}", one.url(), two.url()));
    config.set("fail_timeout", "1m").unwrap();
    let (client, lines) = logging(config.build().unwrap());
    for number in 0..200 {
        resolve(&client, &format!("junk-{number}")).unwrap_err();
        if number % 10 == 0 {
            resolve(&client, &format!("good-{number}")).unwrap();
        }
    }
    let good = |server: &Server| {
        let calls = server.calls();
        calls
            .iter()
            .filter(|call| call.token().starts_with("good"))
            .count()
    };
    assert_eq!((good(&one), good(&two)), (20, 0));
    assert_eq!(count(&lines, "are asked before this one"), 0);
    let at_the_second = two.calls().len();
    // The budget for retries limits the number of calls.
    assert!((50..160).contains(&at_the_second), "{at_the_second}");
}

/// One client sends tokens on which both addresses fail, and one address fails on all tokens. Good tokens still reach
/// the other address.
#[test]
fn junk_does_not_keep_good_tokens_from_the_address_that_answers() {
    let (bad, good) = (
        Server::start(|_| Reply::Bytes(response(500, &[], ""))),
        fails_on_junk("500"),
    );
    let mut config = config(&format!("{} {}", bad.url(), good.url()));
    config.set("fail_timeout", "100ms").unwrap();
    let client = Client::start(config.build().unwrap()).unwrap();
    let mut lost = 0;
    for number in 0..400 {
        for nth in 0..5 {
            resolve(&client, &format!("junk-{number}-{nth}")).unwrap_err();
        }
        lost += usize::from(resolve(&client, &format!("good-{number}")).is_err());
    }
    assert!(lost <= 4, "{lost}");
}

#[test]
fn an_address_that_swallows_calls_leaves_time_for_the_others() {
    let silent = Server::start(|_| Reply::Silence);
    let refusing = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}/introspect", listener.local_addr().unwrap())
    };
    let knob = Knob::default();
    let good = knob.server();
    let endpoints = format!("{refusing} {} {}", silent.url(), good.url());
    let mut config = config(&endpoints);
    config.set("timeout", "2s").unwrap();
    let client = Client::start(config.build().unwrap()).unwrap();
    let started = Instant::now();
    assert_eq!(subject(&resolve(&client, "a").unwrap()), "call-1");
    assert!(started.elapsed() < Duration::from_millis(1900));
    // By now the client knows that the address fails.
    let started = Instant::now();
    resolve(&client, "b").unwrap();
    assert!(started.elapsed() < Duration::from_millis(500));
}

#[test]
fn an_answer_that_refuses_us_is_not_taken_elsewhere() {
    let (first, second) = (Knob::default(), Knob::default());
    let (one, two) = (first.server(), second.server());
    first.fail_with(401);
    let config = config(&format!("{} {}", one.url(), two.url()));
    let client = Client::start(config.build().unwrap()).unwrap();
    let error = resolve(&client, "a").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ClientRefused);
    assert_eq!((first.calls(), second.calls()), (1, 0));
}

#[test]
fn whoever_asks_after_a_purge_gets_what_the_server_says_after_it_even_while_an_older_call_is_under_way()
 {
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&calls);
    let server = Server::start(move |_| {
        let count = counter.fetch_add(1, Ordering::SeqCst) + 1;
        if count == 1 {
            // The call was made before the purge, and takes a while.
            thread::sleep(Duration::from_millis(500));
        }
        bare_jwt(&jwt(&format!(r#"{{"sub":"call-{count}"}}"#)))
    });
    let client = server.client(&[]);
    thread::scope(|scope| {
        let early = scope.spawn(|| subject(&resolve(&client, "t").unwrap()));
        eventually("the first call", || calls.load(Ordering::SeqCst) == 1);
        client.purge(token("t")).unwrap();
        assert_eq!(subject(&resolve(&client, "t").unwrap()), "call-2");
        assert_eq!(early.join().unwrap(), "call-1");
    });
    let hit = resolve(&client, "t").unwrap();
    assert_eq!(
        (subject(&hit).as_str(), hit.cache),
        ("call-2", CacheStatus::Hit)
    );

    client.purge_all().unwrap();
    assert_eq!(subject(&resolve(&client, "t").unwrap()), "call-3");
    client.stop();
    assert_eq!(
        client.purge(token("t")).unwrap_err().kind(),
        ErrorKind::Stopped
    );
}
