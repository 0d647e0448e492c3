//! The Rust API of a client: verdicts, errors, and the requests to the authorization server.

mod support;

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use phantom_token::token::ContextBuilder;
use phantom_token::{
    CacheStatus, Client, ClientOptions, CompletionQueue, Error, ErrorKind, LogLevel, LogSink,
    Resolution, Submitted, Verdict,
};
use support::{
    Reply, Server, active_after, bare_jwt, inactive, jwt, jwt_of, resolve, response, token,
};

const AT_ONCE: Duration = Duration::ZERO;
/// Far longer than any step of these tests should take.
const LONG: Duration = Duration::from_secs(20);

fn jwt_in(resolution: &Resolution) -> &str {
    match &resolution.verdict {
        Verdict::Active(active) => active.jwt().unwrap(),
        Verdict::Inactive => panic!("inactive"),
    }
}

fn kind(outcome: Result<Resolution, Error>) -> ErrorKind {
    outcome.unwrap_err().kind()
}

#[test]
fn a_token_is_asked_about_once_and_then_remembered() {
    let server = Server::start(active_after(AT_ONCE));
    let client = server.client(&[]);

    assert!(client.lookup(token("opaque")).unwrap().is_none());
    let first = resolve(&client, "opaque").unwrap();
    let second = resolve(&client, "opaque").unwrap();
    let third = client.lookup(token("opaque")).unwrap().unwrap();

    assert_eq!(jwt_in(&first), jwt_of("opaque"));
    assert_eq!(jwt_in(&second), jwt_of("opaque"));
    assert_eq!(jwt_in(&third), jwt_of("opaque"));
    assert_eq!(
        [first.cache, second.cache, third.cache],
        [CacheStatus::Miss, CacheStatus::Hit, CacheStatus::Hit]
    );
    let calls = server.calls();
    assert_eq!(calls.len(), 1);
    assert!(calls[0].head.starts_with("POST /introspect HTTP/1.1"));
    assert_eq!(calls[0].body, "token=opaque&token_type_hint=access_token");
    let stats = client.stats();
    assert_eq!((stats.misses, stats.hits, stats.entries), (1, 2, 1));
    assert_eq!(stats.latency.iter().sum::<u64>(), 1);
}

#[test]
fn an_inactive_token_is_remembered_too_and_apart() {
    let server = Server::start(|_| inactive());
    let client = server.client(&[]);
    for _ in 0..3 {
        let resolution = resolve(&client, "opaque").unwrap();
        assert!(matches!(resolution.verdict, Verdict::Inactive));
    }
    assert_eq!(server.calls().len(), 1);
    let stats = client.stats();
    assert_eq!((stats.inactive, stats.inactive_entries), (3, 1));
}

#[test]
fn many_threads_with_one_cold_token_cause_one_call() {
    let server = Server::start(active_after(Duration::from_millis(200)));
    let client = server.client(&[]);
    let barrier = Barrier::new(64);
    thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                barrier.wait();
                assert_eq!(jwt_in(&resolve(&client, "cold").unwrap()), jwt_of("cold"));
            });
        }
    });
    assert_eq!(server.calls().len(), 1);
    let stats = client.stats();
    assert_eq!(stats.misses, 1);
    assert_eq!(stats.misses + stats.coalesced + stats.hits, 64);
    assert_eq!((stats.in_flight, stats.waiting), (0, 0));
}

#[test]
fn no_interleaving_of_threads_and_tokens_asks_twice() {
    let server = Server::start(active_after(AT_ONCE));
    let client = server.client(&[]);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for number in 0..300 {
                    let name = format!("token-{number}");
                    assert_eq!(jwt_in(&resolve(&client, &name).unwrap()), jwt_of(&name));
                }
            });
        }
    });
    assert_eq!(server.calls().len(), 300);
}

#[test]
fn a_failure_is_shared_by_all_who_wait_and_not_remembered() {
    let failing = Arc::new(AtomicUsize::new(1));
    let gate = Arc::clone(&failing);
    let server = Server::start(move |call| {
        thread::sleep(Duration::from_millis(200));
        if gate.load(Ordering::SeqCst) == 1 {
            Reply::Bytes(response(500, &[], "oops"))
        } else {
            bare_jwt(&jwt_of(&call.token()))
        }
    });
    let client = server.client(&[]);
    let barrier = Barrier::new(8);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                barrier.wait();
                assert_eq!(kind(resolve(&client, "opaque")), ErrorKind::BadAnswer);
            });
        }
    });
    assert_eq!(server.calls().len(), 1);
    failing.store(0, Ordering::SeqCst);
    assert_eq!(
        jwt_in(&resolve(&client, "opaque").unwrap()),
        jwt_of("opaque")
    );
    assert_eq!(server.calls().len(), 2);
    assert_eq!(client.stats().errors[ErrorKind::BadAnswer.index()], 8);
}

#[test]
fn a_verdict_ends_with_the_tokens_own_expiry() {
    let server = Server::start(|_| {
        let exp = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs()
            + 2;
        bare_jwt(&jwt(&format!(r#"{{"exp":{exp}}}"#)))
    });
    let client = server.client(&[("cache_ttl", "1h")]);
    resolve(&client, "short").unwrap();
    let start = Instant::now();
    while client.lookup(token("short")).unwrap().is_some() {
        assert!(start.elapsed() < LONG);
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(resolve(&client, "short").unwrap().cache, CacheStatus::Miss);
}

#[test]
fn what_cache_control_says_is_honoured_as_far_as_it_is_configured() {
    let cases = [
        ("max-age", "max-age=0", 2),
        ("max-age", "no-store", 1),
        ("max-age", "max-age=60", 1),
        ("strict", "no-store", 2),
        ("strict", "private, max-age=60", 2),
        ("strict", "s-maxage=60, max-age=0", 1),
        ("ignore", "no-store, max-age=0", 1),
    ];
    for (mode, header, calls) in cases {
        let server = Server::start(move |call| {
            Reply::Bytes(response(
                200,
                &[("Cache-Control", header)],
                &jwt_of(&call.token()),
            ))
        });
        let client = server.client(&[("cache_control", mode)]);
        resolve(&client, "opaque").unwrap();
        resolve(&client, "opaque").unwrap();
        assert_eq!(server.calls().len(), calls, "{mode}: {header}");
    }
}

#[test]
fn nothing_is_remembered_when_the_cache_is_off() {
    for setting in ["cache_size", "cache_entries", "cache_ttl"] {
        let server = Server::start(active_after(AT_ONCE));
        let client = server.client(&[(setting, "0")]);
        resolve(&client, "opaque").unwrap();
        resolve(&client, "opaque").unwrap();
        assert_eq!(server.calls().len(), 2, "{setting}");
    }
}

#[test]
fn a_silent_server_ends_in_a_timeout_at_the_deadline() {
    let server = Server::start(|_| Reply::Silence);
    let client = server.client(&[("timeout", "300ms"), ("connect_timeout", "300ms")]);
    let start = Instant::now();
    let error = resolve(&client, "opaque").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.message().contains("timeout"), "{error}");
    assert!(start.elapsed() >= Duration::from_millis(290));
    assert!(start.elapsed() < LONG);
}

#[test]
fn a_caller_may_wait_shorter_than_the_flight_and_others_are_not_disturbed() {
    let server = Server::start(active_after(Duration::from_millis(400)));
    let client = server.client(&[]);
    thread::scope(|scope| {
        let patient = scope.spawn(|| resolve(&client, "opaque"));
        while client.stats().waiting == 0 {
            thread::yield_now();
        }
        let hasty = client.resolve(token("opaque"), Some(Duration::from_millis(20)));
        assert_eq!(kind(hasty), ErrorKind::Timeout);
        assert_eq!(jwt_in(&patient.join().unwrap().unwrap()), jwt_of("opaque"));
    });
    assert_eq!(server.calls().len(), 1);
}

#[test]
fn more_waiting_requests_than_allowed_are_refused_at_once() {
    let server = Server::start(|_| Reply::Silence);
    let client = server.client(&[("max_waiting", "2"), ("timeout", "10s")]);
    let queue = CompletionQueue::new().unwrap();
    for tag in 0..2 {
        let name = format!("token-{tag}");
        assert!(matches!(
            client.submit(token(&name), &queue, tag),
            Submitted::Pending(_)
        ));
    }
    let error = resolve(&client, "one-too-many").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    assert_eq!(error.kind().http_status(), 503);
    assert!(error.message().contains("max_waiting"), "{error}");
}

#[test]
fn no_more_calls_are_under_way_than_allowed_and_all_are_answered() {
    let server = Server::start(active_after(Duration::from_millis(30)));
    let client = server.client(&[("max_concurrent", "3")]);
    let queue = CompletionQueue::new().unwrap();
    for tag in 0..30 {
        let name = format!("token-{tag}");
        client.submit(token(&name), &queue, tag);
    }
    let mut finished = Vec::new();
    let start = Instant::now();
    while finished.len() < 30 {
        assert!(start.elapsed() < LONG);
        assert!(poll_in(queue.fd().as_raw_fd()), "the queue never woke us");
        queue.acknowledge();
        queue.drain(&mut finished, 7);
    }
    for completion in &finished {
        let name = format!("token-{}", completion.tag);
        assert_eq!(jwt_in(completion.outcome.as_ref().unwrap()), jwt_of(&name));
    }
    assert_eq!(server.most_at_once(), 3);
}

fn poll_in(fd: i32) -> bool {
    let mut poll = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one valid pollfd, borrowed for the call.
    unsafe { libc::poll(&raw mut poll, 1, 10_000) == 1 }
}

#[test]
fn a_connection_that_dies_before_the_answer_is_tried_once_more_on_a_fresh_one() {
    for partial in [
        "",
        "HTTP/1.1 200 OK\r\nContent-Le",
        "HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\nabc",
    ] {
        let server = Server::start(move |call| {
            if call.connection == 0 {
                Reply::BytesThenClose(partial.as_bytes().to_vec())
            } else {
                bare_jwt(&jwt_of(&call.token()))
            }
        });
        let client = server.client(&[]);
        assert_eq!(
            jwt_in(&resolve(&client, "opaque").unwrap()),
            jwt_of("opaque")
        );
        let calls = server.calls();
        assert_eq!(calls.len(), 2, "{partial:?}");
        assert_ne!(calls[0].connection, calls[1].connection);
        assert_eq!(client.stats().retries, 1);
    }
}

#[test]
fn it_is_tried_no_more_often_than_configured() {
    let server = Server::start(|_| Reply::BytesThenClose(Vec::new()));
    for (retries, calls) in [("0", 1), ("1", 2), ("3", 4)] {
        let before = server.calls().len();
        let client = server.client(&[("retries", retries)]);
        assert_eq!(kind(resolve(&client, "opaque")), ErrorKind::Unreachable);
        assert_eq!(server.calls().len() - before, calls);
    }
}

#[test]
fn an_answer_however_bad_is_not_asked_for_again() {
    let server = Server::start(|_| Reply::Bytes(response(500, &[], "")));
    let client = server.client(&[("retries", "3")]);
    assert_eq!(kind(resolve(&client, "opaque")), ErrorKind::BadAnswer);
    assert_eq!(server.calls().len(), 1);
}

#[test]
fn connections_are_kept_alive() {
    let server = Server::start(active_after(AT_ONCE));
    let client = server.client(&[]);
    for number in 0..20 {
        resolve(&client, &format!("token-{number}")).unwrap();
    }
    assert_eq!(server.connections(), 1);
}

#[test]
fn a_server_that_closes_idle_connections_is_never_seen_to() {
    let server = Server::start(|call| {
        Reply::BytesThenClose(response(
            200,
            // The `Content-Type` does not announce a JWT.
            &[("Content-Type", "application/jwt")],
            &jwt_of(&call.token()),
        ))
    });
    let client = server.client(&[]);
    for number in 0..50 {
        resolve(&client, &format!("token-{number}")).unwrap();
    }
}

#[test]
fn an_answer_that_is_too_large_is_given_up_whether_it_says_so_or_not() {
    let server = Server::start(|call| {
        let huge = "x".repeat(200_000);
        match call.token().as_str() {
            "announced" => Reply::Bytes(response(200, &[], &huge)),
            _ => Reply::BytesThenClose(format!("HTTP/1.1 200 OK\r\n\r\n{huge}").into_bytes()),
        }
    });
    let client = server.client(&[]);
    for name in ["announced", "endless"] {
        let error = resolve(&client, name).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadAnswer);
        assert!(error.message().contains("max_response_size"), "{error}");
    }
}

#[test]
fn a_redirect_is_not_followed() {
    let target = Server::start(active_after(AT_ONCE));
    let location = target.url();
    let server =
        Server::start(move |_| Reply::Bytes(response(307, &[("Location", &location)], "")));
    let client = server.client(&[]);
    assert_eq!(kind(resolve(&client, "opaque")), ErrorKind::BadAnswer);
    assert!(target.calls().is_empty());
}

#[test]
fn nobody_listening_is_said_so() {
    let client = {
        let server = Server::start(|_| inactive());
        server.client(&[])
    };
    // The listener may take a moment to close.
    thread::sleep(Duration::from_millis(200));
    let error = resolve(&client, "opaque").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert!(error.message().contains("is it running"), "{error}");
}

#[test]
fn what_is_not_http_is_a_bad_answer() {
    let server = Server::start(|_| Reply::BytesThenClose(b"SSH-2.0-OpenSSH_9.9\r\n".to_vec()));
    let client = server.client(&[]);
    let error = resolve(&client, "opaque").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadAnswer);
    assert!(error.message().contains("not HTTP"), "{error}");
}

#[test]
fn verdicts_of_one_context_are_for_no_other() {
    let server = Server::start(active_after(Duration::from_millis(50)));
    let client = server.client(&[]);
    let queue = CompletionQueue::new().unwrap();
    let context = |name: &[u8]| {
        let mut context = ContextBuilder::default();
        context.add(name);
        context.finish()
    };
    let submit = |name, tag| client.submit_within(&context(name), token("opaque"), &queue, tag);
    // Lookups of different contexts are not merged either.
    for (name, tag) in [(b"a", 1), (b"a", 2), (b"b", 3)] {
        assert!(matches!(submit(name, tag), Submitted::Pending(_)));
    }
    let mut finished = Vec::new();
    while finished.len() < 3 {
        assert!(poll_in(queue.fd().as_raw_fd()));
        queue.drain(&mut finished, usize::MAX);
        queue.acknowledge();
    }
    assert_eq!(server.calls().len(), 2);
    for name in [b"a", b"b"] {
        assert!(matches!(submit(name, 0), Submitted::Ready(Ok(_))));
    }
    assert!(client.lookup(token("opaque")).unwrap().is_none());
    resolve(&client, "opaque").unwrap();
    assert_eq!(server.calls().len(), 3);
    client.purge_all().unwrap();
    assert!(matches!(submit(b"a", 4), Submitted::Pending(_)));
}

#[test]
fn a_cancelled_request_never_completes_and_its_flight_still_fills_the_cache() {
    let server = Server::start(active_after(Duration::from_millis(200)));
    let client = server.client(&[]);
    let queue = CompletionQueue::new().unwrap();
    let Submitted::Pending(first) = client.submit(token("opaque"), &queue, 1) else {
        panic!("answered without asking");
    };
    let Submitted::Pending(_) = client.submit(token("opaque"), &queue, 2) else {
        panic!("answered without asking");
    };
    assert!(client.cancel(first));
    assert!(!client.cancel(first), "it is gone already");
    assert!(poll_in(queue.fd().as_raw_fd()));
    let mut finished = Vec::new();
    queue.drain(&mut finished, usize::MAX);
    let tags: Vec<_> = finished.iter().map(|completion| completion.tag).collect();
    assert_eq!(tags, [2]);

    let Submitted::Pending(alone) = client.submit(token("other"), &queue, 3) else {
        panic!("answered without asking");
    };
    assert!(client.cancel(alone));
    let start = Instant::now();
    while client.lookup(token("other")).unwrap().is_none() {
        assert!(start.elapsed() < LONG);
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(queue.drain(&mut finished, usize::MAX), 0);
}

#[tokio::test]
async fn an_async_host_awaits_the_verdict_and_dropping_the_future_cancels() {
    let server = Server::start(active_after(Duration::from_millis(100)));
    let client = server.client(&[]);
    let resolution = client.resolve_async(token("opaque")).await.unwrap();
    assert_eq!(jwt_in(&resolution), jwt_of("opaque"));

    let future = client.resolve_async(token("other"));
    assert_eq!(client.stats().waiting, 1);
    drop(future);
    assert_eq!(client.stats().waiting, 0);
}

#[test]
fn stopping_answers_all_who_wait_and_ends_the_thread() {
    let server = Server::start(|_| Reply::Silence);
    let client = server.client(&[("timeout", "60s")]);
    let start = Instant::now();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| resolve(&client, "opaque"));
        while client.stats().waiting == 0 {
            thread::yield_now();
        }
        assert!(client.stop());
        assert_eq!(kind(waiting.join().unwrap()), ErrorKind::Stopped);
    });
    assert!(start.elapsed() < LONG);
    assert_eq!(kind(resolve(&client, "opaque")), ErrorKind::Stopped);
    assert_eq!(
        client.lookup(token("opaque")).unwrap_err().kind(),
        ErrorKind::Stopped
    );
    assert!(client.stop(), "stopping twice is stopping once");
}

#[test]
fn a_client_that_is_dropped_leaves_no_thread_behind() {
    let server = Server::start(active_after(AT_ONCE));
    let name = "phantom-token";
    for _ in 0..5 {
        let client = server.client(&[]);
        let twin = client.clone();
        drop(client);
        resolve(&twin, "opaque").unwrap();
        assert!(threads().iter().any(|thread| thread.name == name));
    }
    // Other tests of this process run clients too. Each client here has joined its own threads.
    let client = server.client(&[]);
    assert!(client.stop());
}

#[test]
fn the_clients_thread_takes_no_signal() {
    let server = Server::start(active_after(AT_ONCE));
    let client = server.client(&[]);
    resolve(&client, "opaque").unwrap();
    let ours: Vec<_> = threads()
        .into_iter()
        .filter(|thread| thread.name == "phantom-token")
        .collect();
    assert!(!ours.is_empty());
    for thread in ours {
        // All signals except SIGKILL (9), SIGSTOP (19) and the two that glibc reserves for itself (32, 33).
        let all = !(1 << 8 | 1 << 18 | 1 << 31 | 1 << 32);
        assert_eq!(thread.blocked & all, all, "{:x}", thread.blocked);
    }
}

struct Thread {
    name: String,
    blocked: u64,
}

fn threads() -> Vec<Thread> {
    let mut threads = Vec::new();
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        // A thread may end during this loop.
        let Ok(status) = std::fs::read_to_string(task.unwrap().path().join("status")) else {
            continue;
        };
        let field = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .map(|value| value.trim().to_owned())
                .unwrap_or_default()
        };
        threads.push(Thread {
            name: field("Name"),
            blocked: u64::from_str_radix(&field("SigBlk"), 16).unwrap_or(0),
        });
    }
    threads
}

#[test]
fn a_forked_child_is_told_at_once() {
    let server = Server::start(active_after(AT_ONCE));
    let client = server.client(&[]);
    resolve(&client, "opaque").unwrap();
    let queue = CompletionQueue::new().unwrap();

    // SAFETY: the child runs only what is written below, which takes no lock that another thread of the parent may
    // hold (that is what is tested), and leaves by `_exit`.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        let forked = |outcome: Result<(), Error>| {
            outcome.is_err_and(|error| error.kind() == ErrorKind::Forked)
        };
        let all = forked(client.lookup(token("opaque")).map(drop))
            && forked(client.resolve(token("opaque"), None).map(drop))
            && match client.submit(token("other"), &queue, 0) {
                Submitted::Ready(outcome) => forked(outcome.map(drop)),
                Submitted::Pending(_) => false,
            }
            && !client.stop();
        drop(client);
        // SAFETY: ends the child without running the parent's handlers.
        unsafe { libc::_exit(if all { 0 } else { 1 }) };
    }
    let start = Instant::now();
    let mut status = 0;
    loop {
        // SAFETY: `child` is our child; `status` is ours to write.
        let done = unsafe { libc::waitpid(child, &raw mut status, libc::WNOHANG) };
        if done == child {
            break;
        }
        if start.elapsed() > LONG {
            // SAFETY: the child has not been waited for, so that the number is still its own.
            unsafe { libc::kill(child, libc::SIGKILL) };
            panic!("the child hangs");
        }
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(status, 0, "the child saw something else");
    // The parent continues unaffected.
    assert_eq!(resolve(&client, "opaque").unwrap().cache, CacheStatus::Hit);
    resolve(&client, "another").unwrap();
}

#[test]
fn trouble_is_one_log_line_that_names_the_provider_and_holds_no_secret() {
    let server = Server::start(|_| Reply::Bytes(response(401, &[], "no")));
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&lines);
    let log: LogSink = Arc::new(move |level, line| {
        sink.lock().unwrap().push((level, line.to_owned()));
    });
    let client = Client::start_with(
        server.provider(&[]),
        ClientOptions {
            log: Some(log),
            ..ClientOptions::default()
        },
    )
    .unwrap();
    for number in 0..20 {
        let name = format!("t0ken-{number}");
        assert_eq!(kind(resolve(&client, &name)), ErrorKind::ClientRefused);
    }
    let lines = lines.lock().unwrap();
    assert_eq!(lines.len(), 1, "{lines:?}");
    let (level, line) = &lines[0];
    assert_eq!(*level, LogLevel::Error);
    assert!(line.contains("provider \"test\""), "{line}");
    assert!(line.contains("client_secret"), "{line}");
    for secret in ["t0ken", support::CLIENT_SECRET] {
        assert!(!line.contains(secret), "{line}");
    }
}

/// Clients that send tokens and disconnect cause no queue that the next client would have to wait for. The number of
/// calls without a waiting client is at most the limit of concurrent calls.
#[test]
fn clients_that_send_tokens_and_leave_make_nobody_wait() {
    let server = Server::start(active_after(Duration::from_millis(100)));
    let client = server.client(&[
        ("max_concurrent", "4"),
        ("max_waiting", "8"),
        ("timeout", "30s"),
    ]);
    let queue = CompletionQueue::new().unwrap();
    let padding = "x".repeat(3000);
    for number in 0..2000 {
        let text = format!("{padding}{number}");
        match client.submit(token(&text), &queue, 0) {
            Submitted::Pending(id) => assert!(client.cancel(id)),
            other => panic!("{other:?}"),
        }
        let in_flight = client.stats().in_flight;
        assert!(in_flight <= 4, "{in_flight}");
    }
    resolve(&client, "opaque").unwrap();
    let calls = server.calls();
    let before = calls.iter().position(|call| call.token() == "opaque");
    // While the clients connected and disconnected, some of the tokens were looked up.
    assert!(before.unwrap() < 100, "{before:?}");
}
