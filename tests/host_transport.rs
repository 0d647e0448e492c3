//! A client whose calls to the authorization server are made by its host.

mod support;

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use phantom_token::config::HostEndpoint;
use phantom_token::token::Key;
use phantom_token::{
    Call, CallFailure, Client, ClientOptions, Completion, CompletionQueue, Config, Error,
    ErrorKind, Provider, Resolution, Submitted,
};
use support::{jwt_of, resolve, subject, token};

fn host_config() -> Config {
    let mut config = Config::new("curity");
    config.host_endpoint = Some(HostEndpoint {
        shown: "location \"curity\"".to_owned(),
        identity: "api.example.com curity".to_owned(),
    });
    config
}

/// A client, and the calls that it requests from its host.
fn started(config: &Config) -> (Client, Receiver<Call>) {
    let (sender, calls) = channel();
    let sender = Mutex::new(sender);
    let surroundings = ClientOptions {
        calls: Some(Arc::new(move |call| {
            // After the test has ended, nothing receives its calls.
            let _ = sender.lock().unwrap().send(call);
        })),
        ..ClientOptions::default()
    };
    let client = Client::start_with(config.build().unwrap(), surroundings).unwrap();
    (client, calls)
}

/// An event loop with its completion queue.
struct Loop {
    queue: Arc<CompletionQueue>,
    finished: Vec<Completion>,
}

impl Loop {
    fn new() -> Self {
        Loop {
            queue: CompletionQueue::new().unwrap(),
            finished: Vec::new(),
        }
    }

    fn submit(&self, client: &Client, text: &str, tag: u64) -> phantom_token::RequestId {
        match client.submit(token(text), &self.queue, tag) {
            Submitted::Pending(id) => id,
            Submitted::Ready(outcome) => panic!("it is known already: {outcome:?}"),
        }
    }

    /// The outcome of the request with this tag.
    fn outcome(&mut self, tag: u64) -> Result<Resolution, Error> {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(at) = self.finished.iter().position(|done| done.tag == tag) {
                return self.finished.swap_remove(at).outcome;
            }
            assert!(Instant::now() < until, "nothing came of it");
            thread::sleep(Duration::from_millis(1));
            self.queue.drain(&mut self.finished, usize::MAX);
        }
    }

    fn is_idle(&mut self) -> bool {
        thread::sleep(Duration::from_millis(50));
        self.queue.drain(&mut self.finished, usize::MAX);
        self.finished.is_empty()
    }
}

fn next(calls: &Receiver<Call>) -> Call {
    calls.recv_timeout(Duration::from_secs(10)).unwrap()
}

fn no_more(calls: &Receiver<Call>) -> bool {
    calls.recv_timeout(Duration::from_millis(50)).is_err()
}

fn answer(call: Call, status: u16, headers: &[(&str, &str)], body: &str) {
    let mut answer = call.begin(status);
    for (name, value) in headers {
        answer.header(name.as_bytes(), value.as_bytes());
    }
    assert!(answer.push(body.as_bytes()));
    call.answer(Ok(answer));
}

#[test]
fn the_host_is_handed_the_introspection_request_and_its_answer_is_read_as_any_other() {
    let (client, calls) = started(&host_config());
    let mut events = Loop::new();
    events.submit(&client, "opaque/1", 7);
    let call = next(&calls);
    assert_eq!(call.tag(), Some(7));
    assert_eq!(call.accept(), b"application/jwt");
    assert_eq!(Call::CONTENT_TYPE, "application/x-www-form-urlencoded");
    assert_eq!(
        std::str::from_utf8(call.body()).unwrap(),
        "token=opaque%2F1&token_type_hint=access_token"
    );
    answer(call, 200, &[], &jwt_of("alice"));
    assert_eq!(subject(&events.outcome(7).unwrap()), "alice");

    // The verdict is cached.
    assert_eq!(subject(&resolve(&client, "opaque/1").unwrap()), "alice");
    assert!(no_more(&calls));

    for (text, status, body, expected) in [
        ("empty", 204, "", "inactive"),
        ("json", 200, r#"{"active":false}"#, "inactive"),
    ] {
        events.submit(&client, text, 8);
        answer(next(&calls), status, &[], body);
        assert_eq!(subject(&events.outcome(8).unwrap()), expected);
    }
    events.submit(&client, "claim", 9);
    let json = format!(r#"{{"active":true,"phantom_token":"{}"}}"#, jwt_of("bob"));
    answer(next(&calls), 200, &[], &json);
    assert_eq!(subject(&events.outcome(9).unwrap()), "bob");
}

#[test]
fn cache_control_of_the_answer_caps_how_long_it_is_remembered() {
    let (client, calls) = started(&host_config());
    let mut events = Loop::new();
    for _ in 0..2 {
        events.submit(&client, "opaque", 1);
        answer(
            next(&calls),
            200,
            &[("Cache-Control", "max-age=0")],
            &jwt_of("alice"),
        );
        assert_eq!(subject(&events.outcome(1).unwrap()), "alice");
    }
}

#[test]
fn many_who_wait_for_one_token_are_one_call() {
    let (client, calls) = started(&host_config());
    let mut events = Loop::new();
    for tag in 0..50 {
        events.submit(&client, "opaque", tag);
    }
    answer(next(&calls), 200, &[], &jwt_of("alice"));
    for tag in 0..50 {
        assert_eq!(subject(&events.outcome(tag).unwrap()), "alice");
    }
    assert!(no_more(&calls));
}

#[test]
fn a_call_whose_request_has_gone_is_made_again_on_behalf_of_each_who_waits_and_disturbs_nobody() {
    let (client, calls) = started(&host_config());
    let mut events = Loop::new();
    let first = events.submit(&client, "opaque", 1);
    let second = events.submit(&client, "opaque", 2);
    events.submit(&client, "opaque", 3);

    let call = next(&calls);
    assert_eq!(call.tag(), Some(1));
    client.cancel(first);
    drop(call);
    let call = next(&calls);
    assert_eq!(call.tag(), Some(2));
    client.cancel(second);
    call.answer(Err(CallFailure::Gone));
    let call = next(&calls);
    assert_eq!(call.tag(), Some(3));
    answer(call, 200, &[], &jwt_of("alice"));
    assert_eq!(subject(&events.outcome(3).unwrap()), "alice");
    assert!(events.is_idle(), "those who left are told nothing");
}

#[test]
fn a_flight_that_nobody_waits_for_any_more_ends_and_the_next_request_starts_anew() {
    let (client, calls) = started(&host_config());
    let mut events = Loop::new();
    for tag in 1..20 {
        let id = events.submit(&client, "opaque", tag);
        let call = next(&calls);
        assert_eq!(call.tag(), Some(tag));
        client.cancel(id);
        drop(call);
    }
    events.submit(&client, "opaque", 20);
    answer(next(&calls), 200, &[], &jwt_of("alice"));
    assert_eq!(subject(&events.outcome(20).unwrap()), "alice");
    let stats = client.stats();
    assert_eq!((stats.in_flight, stats.waiting), (0, 0));
    assert_eq!(stats.breaker_open, 0, "clients that leave are no outage");
}

#[test]
fn a_host_that_can_serve_none_of_those_who_wait_is_not_asked_for_ever() {
    let (client, calls) = started(&host_config());
    let mut events = Loop::new();
    events.submit(&client, "opaque", 1);
    events.submit(&client, "opaque", 2);
    drop(next(&calls));
    drop(next(&calls));
    for tag in [1, 2] {
        let error = events.outcome(tag).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    }
    assert!(no_more(&calls));
}

#[test]
fn what_the_host_says_of_a_call_that_failed_is_told_with_the_place() {
    let mut config = host_config();
    config.max_response_size = 1024;
    let (client, calls) = started(&config);
    let mut events = Loop::new();
    let mut fail = |failure| {
        events.submit(&client, "opaque", 1);
        next(&calls).answer(Err(failure));
        let error = events.outcome(1).unwrap_err();
        assert!(
            error
                .message()
                .starts_with("provider \"curity\": introspection at location \"curity\": "),
            "{error}"
        );
        error
    };
    let error = fail(CallFailure::TooLarge);
    assert_eq!(error.kind(), ErrorKind::BadAnswer);
    assert!(
        error.message().contains("larger than 1024 bytes"),
        "{error}"
    );
    assert_eq!(fail(CallFailure::CutOff).kind(), ErrorKind::Unreachable);
    assert_eq!(fail(CallFailure::Failed).kind(), ErrorKind::Unreachable);
}

#[test]
fn every_status_says_what_the_operator_can_do_and_lets_nobody_in() {
    let mut config = host_config();
    config.max_fails = 0;
    let (client, calls) = started(&config);
    let mut events = Loop::new();
    for (status, kind, says) in [
        (
            401,
            ErrorKind::ClientRefused,
            "credentials that are sent from there",
        ),
        (403, ErrorKind::ClientRefused, "may introspect"),
        (
            404,
            ErrorKind::BadAnswer,
            "check that introspection_endpoint",
        ),
        (405, ErrorKind::BadAnswer, "passed on as it is"),
        (500, ErrorKind::BadAnswer, "failed (500)"),
        (502, ErrorKind::Unreachable, "can't be reached from there"),
        (503, ErrorKind::Busy, "busy (503)"),
        (504, ErrorKind::Timeout, "in time (504)"),
        (302, ErrorKind::BadAnswer, "redirect"),
        (201, ErrorKind::BadAnswer, "unexpected status 201"),
    ] {
        events.submit(&client, "opaque", 1);
        answer(next(&calls), status, &[], &jwt_of("mallory"));
        let error = events.outcome(1).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.message().contains(says), "{error}");
    }
}

#[test]
fn a_compressed_answer_is_refused() {
    let (client, calls) = started(&host_config());
    let mut events = Loop::new();
    events.submit(&client, "opaque", 1);
    answer(
        next(&calls),
        200,
        &[("Content-Encoding", "gzip")],
        &jwt_of("mallory"),
    );
    let error = events.outcome(1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadAnswer, "{error}");
}

#[test]
fn a_host_that_does_not_answer_is_given_up_in_time_and_can_see_it() {
    let mut config = host_config();
    config.timeout = Duration::from_millis(100);
    let (client, calls) = started(&config);
    let mut events = Loop::new();
    events.submit(&client, "opaque", 1);
    let call = next(&calls);
    assert!(call.is_wanted());
    let error = events.outcome(1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(!call.is_wanted());
    // The answer is too late, and is ignored.
    answer(call, 200, &[], &jwt_of("alice"));
    assert!(no_more(&calls));
    assert!(events.is_idle());
}

#[test]
fn a_host_that_fails_too_often_is_left_alone_for_a_while() {
    let mut config = host_config();
    config.max_fails = 1;
    config.fail_timeout = Duration::from_secs(3600);
    let (client, calls) = started(&config);
    let mut events = Loop::new();
    // 20 calls until the circuit breaker opens, and 10 probes.
    for number in 0..30 {
        events.submit(&client, &format!("opaque-{number}"), 1);
        answer(next(&calls), 502, &[], "");
        assert_eq!(
            events.outcome(1).unwrap_err().kind(),
            ErrorKind::Unreachable
        );
    }
    let error = resolve(&client, "opaque").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::CircuitOpen, "{error}");
    assert!(no_more(&calls));
}

#[test]
fn whoever_waits_without_a_tag_is_served_as_well() {
    let (client, calls) = started(&host_config());
    let host = thread::spawn(move || {
        let call = next(&calls);
        assert_eq!(call.tag(), None);
        answer(call, 200, &[], &jwt_of("alice"));
    });
    assert_eq!(subject(&resolve(&client, "opaque").unwrap()), "alice");
    host.join().unwrap();
}

#[test]
fn a_client_that_is_stopped_tells_those_who_wait_although_the_host_holds_the_call() {
    let (client, calls) = started(&host_config());
    let mut events = Loop::new();
    events.submit(&client, "opaque", 1);
    let call = next(&calls);
    assert!(client.stop());
    assert_eq!(events.outcome(1).unwrap_err().kind(), ErrorKind::Stopped);
    assert!(!call.is_wanted());
}

#[test]
fn a_client_without_the_host_that_it_needs_fails_closed() {
    let client = Client::start(host_config().build().unwrap()).unwrap();
    let error = resolve(&client, "opaque").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
}

#[test]
fn what_would_be_ours_to_say_or_takes_other_calls_is_a_configuration_error() {
    for (key, value) in [
        ("issuer", "https://as.example.com"),
        ("client_id", "gateway"),
        ("dialect", "exchange"),
        ("refresh_ahead", "10%"),
        ("ssl_name", "as.example.com"),
        ("verify", "on"),
    ] {
        let mut config = host_config();
        config.set(key, value).unwrap();
        let error = config.build().unwrap_err().to_string();
        assert!(error.contains(key), "{error}");
        assert!(error.contains("the host's to make"), "{error}");
    }
}

#[test]
fn two_places_never_share_what_is_remembered() {
    let one = host_config().build().unwrap();
    let mut other = host_config();
    other.host_endpoint = Some(HostEndpoint {
        shown: "location \"curity\"".to_owned(),
        identity: "other.example.com curity".to_owned(),
    });
    let other = other.build().unwrap();
    let key = |provider: &Provider| Key::new(provider.fingerprint(), token("opaque"));
    assert!(key(&one) != key(&other));
    assert!(key(&one) == key(&host_config().build().unwrap()));
}
