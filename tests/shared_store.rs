//! Clients of one process that share a store, here the zone. `tests/c/zone.c` and the end-to-end suite use several
//! processes.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use phantom_token::cache::{
    Attached, Class, FetchLease, FirstUse, LeaseOutcome, ProofId, ProofTime, SharedAtomics, Store,
    Version, Zone, ZoneStore,
};
use phantom_token::token::Key;
use phantom_token::{CacheStatus, Client, ClientOptions, ErrorKind, Provider};
use support::{
    Reply, Server, active_after, bare_jwt, inactive, jwt, jwt_of, resolve, response, subject, token,
};

/// Memory that can be shared between processes, for as long as the test runs.
fn memory(size: usize) -> *mut u8 {
    // SAFETY: asks for new memory, and touches none of ours.
    let memory = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            size,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    assert_ne!(memory, libc::MAP_FAILED);
    memory.cast()
}

const SIZE: usize = 4 << 20;

fn zone() -> Arc<Zone> {
    // SAFETY: the memory is new, aligned to a page, and never unmapped.
    let (zone, attached) = unsafe { Zone::attach(memory(SIZE), SIZE) }.unwrap();
    assert_eq!(attached, Attached::New);
    zone
}

fn sharing(provider: &Arc<Provider>, store: Arc<dyn Store>) -> Client {
    let surroundings = ClientOptions {
        store: Some(store),
        ..ClientOptions::default()
    };
    Client::start_with(Arc::clone(provider), surroundings).unwrap()
}

/// `N` clients of one provider, each like a worker process.
fn workers<const N: usize>(
    server: &Server,
    zone: &Arc<Zone>,
    settings: &[(&str, &str)],
) -> [Client; N] {
    let provider = server.provider(settings);
    std::array::from_fn(|_| sharing(&provider, Arc::new(zone.store(provider.fingerprint()))))
}

#[test]
fn what_one_found_out_the_others_know() {
    let server = Server::start(|call| match call.token().as_str() {
        "no" => inactive(),
        name => bare_jwt(&jwt_of(name)),
    });
    let [one, two] = workers(&server, &zone(), &[]);
    for (name, expected) in [("yes", "yes"), ("no", "inactive")] {
        let first = resolve(&one, name).unwrap();
        assert_eq!(
            (subject(&first).as_str(), first.cache),
            (expected, CacheStatus::Miss)
        );
        let second = resolve(&two, name).unwrap();
        assert_eq!(
            (subject(&second).as_str(), second.cache),
            (expected, CacheStatus::Shared)
        );
        // From its own cache now.
        assert_eq!(resolve(&two, name).unwrap().cache, CacheStatus::Hit);
    }
    assert_eq!(server.calls().len(), 2);
    assert_eq!(two.stats().shared_hits, 2);
}

#[test]
fn without_a_memory_of_its_own_a_client_has_the_zones() {
    let server = Server::start(active_after(Duration::ZERO));
    let [one, two] = workers(&server, &zone(), &[("cache_size", "0")]);
    assert_eq!(resolve(&one, "t").unwrap().cache, CacheStatus::Miss);
    for client in [&one, &two, &one] {
        assert_eq!(resolve(client, "t").unwrap().cache, CacheStatus::Shared);
    }
    assert_eq!(server.calls().len(), 1);
}

#[test]
fn with_cache_ttl_0_nothing_is_shared() {
    let server = Server::start(active_after(Duration::ZERO));
    let zone = zone();
    let [one, two] = workers(&server, &zone, &[("cache_ttl", "0")]);
    resolve(&one, "t").unwrap();
    resolve(&two, "t").unwrap();
    assert_eq!(server.calls().len(), 2);
    assert_eq!(zone.counts().entries, 0);
}

const MINUTE: ProofTime = ProofTime {
    iat: 1_700_000_000,
    now: 1_700_000_002,
    window: Duration::from_secs(60),
};

#[test]
fn a_proof_is_used_once_by_all_whatever_is_remembered_of_tokens_and_whatever_is_purged() {
    let server = Server::start(active_after(Duration::ZERO));
    for settings in [&[][..], &[("cache_ttl", "0")], &[("cache_size", "0")]] {
        let zone = zone();
        let [one, two] = workers(&server, &zone, settings);
        let [other] = workers(&server, &zone, &[("client_id", "another")]);
        let used = |client: &Client| client.first_use(&ProofId([7; 32]), MINUTE);
        assert_eq!(used(&one), FirstUse::First);
        for client in [&one, &two, &other] {
            assert_eq!(used(client), FirstUse::Replayed, "{settings:?}");
            client.purge_all().unwrap();
        }
        assert_eq!(used(&two), FirstUse::Replayed);
        assert_eq!(zone.counts().proofs, 1);
    }
}

#[test]
fn with_a_store_that_notes_no_proofs_or_none_a_client_notes_them_itself() {
    let server = Server::start(active_after(Duration::ZERO));
    let provider = server.provider(&[]);
    let shelf: Arc<dyn Store> = Arc::new(Shelf::default());
    for store in [None, Some(shelf)] {
        let surroundings = ClientOptions {
            store,
            ..ClientOptions::default()
        };
        let client = Client::start_with(Arc::clone(&provider), surroundings).unwrap();
        let used = || client.first_use(&ProofId([7; 32]), MINUTE);
        assert_eq!(used(), FirstUse::First);
        client.purge_all().unwrap();
        assert_eq!(used(), FirstUse::Replayed);
        client.stop();
        assert_eq!(used(), FirstUse::Lost, "who is stopped knows of none");
    }
}

#[test]
fn of_threads_that_use_one_proof_at_once_one_is_the_first() {
    let server = Server::start(active_after(Duration::ZERO));
    let zone = zone();
    let shared = workers::<4>(&server, &zone, &[]);
    let alone = server.client(&[]);
    for clients in [shared.to_vec(), vec![alone; 4]] {
        let first = AtomicUsize::new(0);
        thread::scope(|scope| {
            for client in &clients {
                scope.spawn(|| {
                    for number in 0..2000u16 {
                        let [low, high] = number.to_le_bytes();
                        let mut id = [low; 32];
                        id[1] = high;
                        if client.first_use(&ProofId(id), MINUTE) == FirstUse::First {
                            first.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        assert_eq!(first.into_inner(), 2000);
    }
}

#[test]
fn another_provider_sees_nothing_of_it() {
    let server = Server::start(active_after(Duration::ZERO));
    let zone = zone();
    let [one] = workers(&server, &zone, &[]);
    let [other] = workers(&server, &zone, &[("client_id", "another")]);
    resolve(&one, "t").unwrap();
    assert_eq!(resolve(&other, "t").unwrap().cache, CacheStatus::Miss);
    assert_eq!(server.calls().len(), 2);
}

/// Lets `count` threads resolve a token with the clients in turn. The server answers when all of them wait.
fn all_wait_for_one(
    count: usize,
    clients: &[Client],
    gate: &AtomicUsize,
    ask: impl Fn(&Client) + Sync,
) {
    thread::scope(|scope| {
        for number in 0..count {
            let (client, ask) = (&clients[number % clients.len()], &ask);
            scope.spawn(move || ask(client));
        }
        let waiting = || {
            clients
                .iter()
                .map(|client| client.stats().waiting)
                .sum::<u64>()
        };
        let start = Instant::now();
        while waiting() < count as u64 {
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "{} wait",
                waiting()
            );
            thread::sleep(Duration::from_millis(1));
        }
        gate.store(1, Ordering::SeqCst);
    });
}

/// A server that answers while its gate is open.
fn gated(
    answer: impl Fn(&support::Call) -> Reply + Send + Sync + 'static,
) -> (Server, Arc<AtomicUsize>) {
    let gate = Arc::new(AtomicUsize::new(0));
    let closed = Arc::clone(&gate);
    let server = Server::start(move |call| {
        while closed.load(Ordering::SeqCst) == 0 {
            thread::sleep(Duration::from_millis(1));
        }
        answer(call)
    });
    (server, gate)
}

#[test]
fn many_who_ask_for_one_cold_token_cause_one_call_whatever_client_they_ask() {
    let (server, gate) = gated(|call| bare_jwt(&jwt_of(&call.token())));
    let clients: [Client; 8] = workers(&server, &zone(), &[("timeout", "30s")]);
    all_wait_for_one(64, &clients, &gate, |client| {
        assert_eq!(subject(&resolve(client, "cold").unwrap()), "cold");
    });
    assert_eq!(server.calls().len(), 1);
    assert_eq!(
        clients
            .iter()
            .map(|client| client.stats().calls)
            .sum::<u64>(),
        1
    );
}

#[test]
fn no_interleaving_of_clients_and_tokens_asks_twice() {
    let server = Server::start(active_after(Duration::from_millis(1)));
    let clients: [Client; 4] = workers(&server, &zone(), &[]);
    thread::scope(|scope| {
        for client in &clients {
            for _ in 0..2 {
                scope.spawn(move || {
                    for number in 0..200 {
                        let name = format!("token-{number}");
                        assert_eq!(subject(&resolve(client, &name).unwrap()), name);
                    }
                });
            }
        }
    });
    assert_eq!(server.calls().len(), 200);
}

#[test]
fn a_failure_is_shared_by_all_who_wait_and_the_next_asks_anew() {
    let (server, gate) = gated(|_| Reply::Bytes(response(429, &[("Retry-After", "7")], "")));
    let clients: [Client; 4] = workers(&server, &zone(), &[("timeout", "30s")]);
    all_wait_for_one(8, &clients, &gate, |client| {
        let error = resolve(client, "t").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy);
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
    });
    assert_eq!(server.calls().len(), 1);
    assert!(resolve(&clients[0], "t").is_err());
    assert_eq!(server.calls().len(), 2);
}

#[test]
fn when_the_one_that_asks_stops_another_takes_over() {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    let server = Server::start(move |call| {
        if counter.fetch_add(1, Ordering::SeqCst) == 0 {
            return Reply::Silence;
        }
        bare_jwt(&jwt_of(&call.token()))
    });
    let [one, two] = workers(&server, &zone(), &[]);
    thread::scope(|scope| {
        let first = scope.spawn(|| resolve(&one, "t"));
        while count.load(Ordering::SeqCst) == 0 {
            thread::sleep(Duration::from_millis(1));
        }
        let second = scope.spawn(|| resolve(&two, "t"));
        thread::sleep(Duration::from_millis(50));
        let started = Instant::now();
        one.stop();
        assert_eq!(
            first.join().unwrap().unwrap_err().kind(),
            ErrorKind::Stopped
        );
        assert_eq!(subject(&second.join().unwrap().unwrap()), "t");
        assert!(started.elapsed() < Duration::from_secs(1));
    });
    assert_eq!(server.calls().len(), 2);
}

#[test]
fn what_is_purged_in_one_is_gone_in_all_at_their_next_look() {
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    let server = Server::start(move |_| {
        let count = counter.fetch_add(1, Ordering::SeqCst) + 1;
        bare_jwt(&jwt(&format!(r#"{{"sub":"call-{count}"}}"#)))
    });
    let [one, two] = workers(&server, &zone(), &[]);
    let both = |expected: &str| {
        for client in [&one, &two] {
            assert_eq!(subject(&resolve(client, "t").unwrap()), expected);
        }
    };
    both("call-1");
    for round in 2..50 {
        let client = if round % 2 == 0 { &one } else { &two };
        client.purge(token("t")).unwrap();
        both(&format!("call-{round}"));
    }
    one.purge_all().unwrap();
    both("call-50");
    assert_eq!(count.load(Ordering::SeqCst), 50);
}

#[test]
fn no_answer_from_before_a_purge_is_served_after_it_while_all_ask() {
    // The server's answer contains the number of purges of the token.
    let purges = Arc::new(AtomicUsize::new(0));
    let now = Arc::clone(&purges);
    let server = Server::start(move |_| {
        let count = now.load(Ordering::SeqCst);
        thread::sleep(Duration::from_millis(1));
        bare_jwt(&jwt(&format!(r#"{{"sub":"{count}"}}"#)))
    });
    let clients: [Client; 4] = workers(&server, &zone(), &[]);
    let done = AtomicUsize::new(0);
    // The number of purges that have returned.
    let told = AtomicUsize::new(0);
    thread::scope(|scope| {
        for client in &clients {
            let (done, told) = (&done, &told);
            scope.spawn(move || {
                while done.load(Ordering::SeqCst) == 0 {
                    let at_least = told.load(Ordering::SeqCst);
                    let got: usize = subject(&resolve(client, "t").unwrap()).parse().unwrap();
                    assert!(got >= at_least, "{got} after {at_least}");
                }
            });
        }
        for round in 1..=500 {
            purges.store(round, Ordering::SeqCst);
            clients[round % 4].purge(token("t")).unwrap();
            told.store(round, Ordering::SeqCst);
            if round % 7 == 0 {
                thread::sleep(Duration::from_millis(2));
            }
        }
        done.store(1, Ordering::SeqCst);
    });
}

#[test]
fn a_refresh_in_one_is_nobody_elses_business() {
    let server = Server::start(active_after(Duration::ZERO));
    let settings = [("cache_ttl", "2s"), ("refresh_ahead", "75%")];
    let clients: [Client; 4] = workers(&server, &zone(), &settings);
    for client in &clients {
        resolve(client, "t").unwrap();
    }
    thread::sleep(Duration::from_millis(700));
    for _ in 0..3 {
        for client in &clients {
            assert!(matches!(
                resolve(client, "t").unwrap().cache,
                CacheStatus::Hit | CacheStatus::Shared
            ));
        }
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(server.calls().len(), 2);
}

#[test]
fn what_is_past_its_time_is_served_from_the_zone_too() {
    let status = Arc::new(AtomicUsize::new(200));
    let knob = Arc::clone(&status);
    let server = Server::start(move |call| match knob.load(Ordering::SeqCst) {
        200 => bare_jwt(&jwt_of(&call.token())),
        _ => Reply::Bytes(response(500, &[], "")),
    });
    let settings = [("cache_ttl", "300ms"), ("stale_if_error", "1m")];
    let [one, two] = workers(&server, &zone(), &settings);
    resolve(&one, "t").unwrap();
    status.store(500, Ordering::SeqCst);
    thread::sleep(Duration::from_millis(400));
    let stale = resolve(&two, "t").unwrap();
    assert_eq!(
        (subject(&stale).as_str(), stale.cache),
        ("t", CacheStatus::Stale)
    );
}

#[test]
fn calls_that_one_stopped_are_stopped_for_all() {
    let server = Server::start(|_| Reply::Bytes(response(500, &[], "")));
    let settings = [("max_fails", "1"), ("fail_timeout", "1h")];
    let [one, two] = workers(&server, &zone(), &settings);
    // 20 calls until the circuit breaker opens, and 10 probes.
    for number in 0..30 {
        let client = if number % 2 == 0 { &one } else { &two };
        let error = resolve(client, &format!("a{number}")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadAnswer, "{number}");
    }
    for client in [&one, &two] {
        let error = resolve(client, "c").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::CircuitOpen);
    }
    assert_eq!(server.calls().len(), 30);
    assert_eq!(
        one.stats().breaker_openings + two.stats().breaker_openings,
        1
    );
}

/// A server with one answer for all tokens, which the test can switch. An inactive answer has `control` as its
/// `Cache-Control`, if that is set.
fn switched(control: &'static str) -> (Server, Arc<AtomicUsize>) {
    let status = Arc::new(AtomicUsize::new(ACTIVE));
    let knob = Arc::clone(&status);
    let server = Server::start(move |call| match knob.load(Ordering::SeqCst) {
        ACTIVE => bare_jwt(&jwt_of(&call.token())),
        INACTIVE => inactive_with(control),
        _ => Reply::Bytes(response(500, &[], "")),
    });
    (server, status)
}

fn inactive_with(control: &str) -> Reply {
    let headers = [
        ("Content-Type", "application/json"),
        ("Cache-Control", control),
    ];
    Reply::Bytes(response(200, &headers, r#"{"active":false}"#))
}

const ACTIVE: usize = 0;
const INACTIVE: usize = 1;
const DOWN: usize = 2;

/// Inactive answers that must not be cached, or only briefly: the settings, and the answer's `Cache-Control`.
const FORGETTABLE: [(&[(&str, &str)], &str); 4] = [
    (&[("cache_inactive_ttl", "0")], "public"),
    (&[], "max-age=0"),
    (&[("cache_control", "strict")], "no-store"),
    (&[("cache_inactive_ttl", "100ms")], "public"),
];

/// Workers that share the zone or a store of another kind, and a worker without a store.
fn sharers(server: &Server, settings: &[(&str, &str)]) -> Vec<(&'static str, Vec<Client>)> {
    let zoned: [Client; 3] = workers(server, &zone(), settings);
    let provider = server.provider(settings);
    let shelf = Arc::new(Shelf::default());
    let counting = Arc::new(Counting::default());
    vec![
        ("zone", zoned.to_vec()),
        (
            "versions",
            vec![
                sharing(&provider, counting.clone()),
                sharing(&provider, counting),
            ],
        ),
        ("shelf", vec![sharing(&provider, shelf)]),
        ("alone", vec![Client::start(provider).unwrap()]),
    ]
}

/// Runs a test for each of [`FORGETTABLE`], in parallel since the tests mostly wait.
fn each_forgettable(test: impl Fn(&[(&str, &str)], &'static str) + Sync) {
    thread::scope(|scope| {
        for (settings, control) in FORGETTABLE {
            let test = &test;
            scope.spawn(move || test(settings, control));
        }
    });
}

/// `stale_if_error` serves stale entries, but a token with an inactive answer has no entry left: neither in the memory
/// of a client that has not looked it up since, nor in the store.
#[test]
fn an_inactive_token_is_not_served_stale_by_anybody() {
    each_forgettable(|more, control| {
        let settings = [
            &[
                ("cache_ttl", "1s"),
                ("stale_if_error", "10m"),
                ("max_fails", "0"),
            ],
            more,
        ]
        .concat();
        let (server, status) = switched(control);
        let sharers = sharers(&server, &settings);
        for client in sharers.iter().flat_map(|(_, clients)| clients) {
            assert_eq!(subject(&resolve(client, "t").unwrap()), "t");
        }
        // A store that does not support times is trusted for two seconds more.
        thread::sleep(Duration::from_millis(3100));
        status.store(INACTIVE, Ordering::SeqCst);
        for (store, clients) in &sharers {
            let said = resolve(&clients[0], "t").unwrap();
            assert_eq!(subject(&said), "inactive", "{store} {settings:?}");
        }
        status.store(DOWN, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(150));
        for (store, clients) in &sharers {
            for client in clients {
                // The result is inactive or an error.
                if let Ok(said) = resolve(client, "t") {
                    assert_eq!(subject(&said), "inactive", "{store} {settings:?}");
                }
            }
        }
    });
}

/// A refresh that finds a token inactive removes its entry, even if the entry is still fresh.
#[test]
fn a_token_that_a_refresh_found_inactive_is_served_no_more() {
    each_forgettable(|more, control| {
        let settings = [&[("cache_ttl", "20s"), ("refresh_ahead", "90%")], more].concat();
        let (server, status) = switched(control);
        let sharers = sharers(&server, &settings);
        for client in sharers.iter().flat_map(|(_, clients)| clients) {
            resolve(client, "t").unwrap();
        }
        thread::sleep(Duration::from_millis(3100));
        status.store(INACTIVE, Ordering::SeqCst);
        for (store, clients) in &sharers {
            let calls = server.calls().len();
            // The request that begins the refresh gets the cached verdict.
            resolve(&clients[0], "t").unwrap();
            let started = Instant::now();
            while clients[0].stats().in_flight > 0 || server.calls().len() == calls {
                assert!(started.elapsed() < Duration::from_secs(20), "{store}");
                thread::sleep(Duration::from_millis(1));
            }
            for client in clients.iter().rev() {
                let said = resolve(client, "t").unwrap();
                assert_eq!(subject(&said), "inactive", "{store} {settings:?}");
            }
        }
    });
}

/// Two concurrent lookups of one token, in a store that allows that: the first lookup is answered last.
#[test]
fn an_active_answer_that_an_inactive_one_overtook_is_not_remembered() {
    let counting: Arc<dyn Store> = Arc::new(Counting::default());
    let zone = zone();
    let slow = Arc::new(AtomicUsize::new(0));
    let knob = Arc::clone(&slow);
    let server = Server::start(move |call| match knob.fetch_add(1, Ordering::SeqCst) {
        0 => {
            let started = Instant::now();
            while knob.load(Ordering::SeqCst) < 10 && started.elapsed() < Duration::from_secs(20) {
                thread::sleep(Duration::from_millis(1));
            }
            bare_jwt(&jwt_of(&call.token()))
        }
        _ => inactive_with("max-age=0"),
    });
    let provider = server.provider(&[("timeout", "30s")]);
    let store = || -> Arc<dyn Store> { Arc::new(Unclaimed(zone.store(provider.fingerprint()))) };
    let stores = [
        ("zone", [store(), store()]),
        ("versions", [counting.clone(), counting]),
    ];
    for (name, stores) in stores {
        slow.store(0, Ordering::SeqCst);
        let [one, two] = stores.map(|store| sharing(&provider, store));
        thread::scope(|scope| {
            let early = scope.spawn(|| resolve(&one, "t"));
            while slow.load(Ordering::SeqCst) == 0 {
                thread::sleep(Duration::from_millis(1));
            }
            assert_eq!(subject(&resolve(&two, "t").unwrap()), "inactive", "{name}");
            // A client that comes later does not join the earlier flight.
            assert_eq!(subject(&resolve(&one, "t").unwrap()), "inactive", "{name}");
            slow.store(10, Ordering::SeqCst);
            early.join().unwrap().unwrap();
        });
        for client in [&one, &two] {
            assert_eq!(
                subject(&resolve(client, "t").unwrap()),
                "inactive",
                "{name}"
            );
        }
    }
}

/// An entry that was evicted from the zone is still in a worker's memory, and is removed there.
#[test]
fn an_inactive_token_ends_in_a_worker_that_alone_remembers_it() {
    let inactive_now = Arc::new(AtomicUsize::new(0));
    let knob = Arc::clone(&inactive_now);
    let server = Server::start(move |call| match call.token().as_str() {
        "t" if knob.load(Ordering::SeqCst) == 1 => inactive_with("max-age=0"),
        name => bare_jwt(&jwt_of(name)),
    });
    // SAFETY: the memory is new, aligned to a page, and never unmapped.
    let (zone, _) = unsafe { Zone::attach(memory(Zone::MIN_SIZE), Zone::MIN_SIZE) }.unwrap();
    let [one, two] = workers(&server, &zone, &[]);
    resolve(&one, "t").unwrap();
    for number in 0..1000 {
        resolve(&two, &format!("other-{number}")).unwrap();
    }
    assert!(zone.counts().evictions > 0);
    assert_eq!(resolve(&one, "t").unwrap().cache, CacheStatus::Hit);
    inactive_now.store(1, Ordering::SeqCst);
    for client in [&two, &one] {
        assert_eq!(subject(&resolve(client, "t").unwrap()), "inactive");
    }
}

/// Random tokens evict nothing from a worker's memory: the worker need not even read the zone.
#[test]
fn a_flood_of_inactive_tokens_ends_nothing_that_others_remember() {
    let server = Server::start(|call| match call.token().as_str() {
        name if name.starts_with("good") => bare_jwt(&jwt_of(name)),
        _ => inactive_with("max-age=0"),
    });
    let [one, two] = workers(&server, &zone(), &[]);
    let good: Vec<_> = (0..200).map(|number| format!("good-{number}")).collect();
    for name in &good {
        resolve(&one, name).unwrap();
    }
    for number in 0..5000 {
        resolve(&two, &format!("bad-{number}")).unwrap();
    }
    for name in &good {
        assert_eq!(resolve(&one, name).unwrap().cache, CacheStatus::Hit);
    }
}

/// A client without a cache shares the zone with one that has a cache. An inactive answer to the first removes the
/// entry of the second.
#[test]
fn an_inactive_token_ends_though_whoever_asked_remembers_nothing() {
    let (server, status) = switched("public");
    let zone = zone();
    let [one] = workers(&server, &zone, &[]);
    let [two] = workers(&server, &zone, &[("cache_ttl", "0")]);
    resolve(&one, "t").unwrap();
    assert_eq!(resolve(&two, "t").unwrap().cache, CacheStatus::Miss);
    assert_eq!(resolve(&one, "t").unwrap().cache, CacheStatus::Hit);
    status.store(INACTIVE, Ordering::SeqCst);
    for client in [&two, &one] {
        assert_eq!(subject(&resolve(client, "t").unwrap()), "inactive");
    }
}

/// A store in which removal fails, and which later returns entries that it should have removed.
#[test]
fn a_store_that_cannot_remove_brings_nothing_inactive_back() {
    struct Stubborn(Shelf);
    impl Store for Stubborn {
        fn version(&self, _: &Key) -> Option<Version> {
            None
        }
        fn get(&self, key: &Key, value: &mut Vec<u8>) -> Option<Duration> {
            self.0.get(key, value)
        }
        fn put(&self, key: &Key, value: &[u8], class: Class, keep: Duration, at: Version) -> bool {
            class == Class::Inactive || self.0.put(key, value, class, keep, at)
        }
        fn remove(&self, _: &Key) {}
        fn clear(&self) {}
    }
    let (server, status) = switched("max-age=0");
    let provider = server.provider(&[
        ("cache_ttl", "1s"),
        ("stale_if_error", "10m"),
        ("max_fails", "0"),
    ]);
    let client = sharing(&provider, Arc::new(Stubborn(Shelf::default())));
    resolve(&client, "t").unwrap();
    thread::sleep(Duration::from_millis(2500));
    status.store(INACTIVE, Ordering::SeqCst);
    assert_eq!(subject(&resolve(&client, "t").unwrap()), "inactive");
    status.store(DOWN, Ordering::SeqCst);
    assert!(resolve(&client, "t").is_err(), "it is not served stale");
    // A later verdict is used again.
    status.store(ACTIVE, Ordering::SeqCst);
    assert_eq!(subject(&resolve(&client, "t").unwrap()), "t");
    assert_eq!(resolve(&client, "t").unwrap().cache, CacheStatus::Hit);
}

/// The zone without its fetch leases: several clients may look up one token at the same time.
struct Unclaimed(ZoneStore);

impl Store for Unclaimed {
    fn version(&self, key: &Key) -> Option<Version> {
        self.0.version(key)
    }
    fn get(&self, key: &Key, value: &mut Vec<u8>) -> Option<Duration> {
        self.0.get(key, value)
    }
    fn put(&self, key: &Key, value: &[u8], class: Class, keep: Duration, at: Version) -> bool {
        self.0.put(key, value, class, keep, at)
    }
    fn remove(&self, key: &Key) {
        self.0.remove(key);
    }
    fn end(&self, key: &Key, value: &[u8], keep: Duration, at: Version) -> Option<Version> {
        self.0.end(key, value, keep, at)
    }
    fn clear(&self) {
        self.0.clear();
    }
}

/// A store that keeps one version for all keys, as a host may implement it.
#[derive(Default)]
struct Counting {
    shelf: Shelf,
    version: AtomicUsize,
}

impl Store for Counting {
    fn version(&self, _: &Key) -> Option<Version> {
        Some((self.version.load(Ordering::SeqCst) as u32).into())
    }
    fn get(&self, key: &Key, value: &mut Vec<u8>) -> Option<Duration> {
        self.shelf.get(key, value)
    }
    fn put(&self, key: &Key, value: &[u8], class: Class, keep: Duration, at: Version) -> bool {
        if self.version(key) == Some(at) {
            self.shelf.put(key, value, class, keep, at);
        }
        true
    }
    fn remove(&self, key: &Key) {
        self.version.fetch_add(1, Ordering::SeqCst);
        self.shelf.remove(key);
    }
    fn clear(&self) {
        self.version.fetch_add(1, Ordering::SeqCst);
        self.shelf.clear();
    }
}

/// A minimal store, which keeps no versions, supports no fetch leases, and returns every entry that it has received.
#[derive(Default)]
struct Shelf(Mutex<Vec<(Key, Vec<u8>)>>);

impl Shelf {
    fn tamper(&self, how: impl Fn(&mut Vec<u8>)) {
        self.0
            .lock()
            .unwrap()
            .iter_mut()
            .for_each(|(_, value)| how(value));
    }
}

impl Store for Shelf {
    fn version(&self, _: &Key) -> Option<Version> {
        None
    }

    fn get(&self, key: &Key, value: &mut Vec<u8>) -> Option<Duration> {
        let entries = self.0.lock().unwrap();
        let (_, found) = entries.iter().find(|(known, _)| known == key)?;
        value.extend_from_slice(found);
        Some(Duration::MAX)
    }

    fn put(&self, key: &Key, value: &[u8], _: Class, _: Duration, _: Version) -> bool {
        self.remove(key);
        self.0.lock().unwrap().push((*key, value.to_owned()));
        true
    }

    fn remove(&self, key: &Key) {
        self.0.lock().unwrap().retain(|(known, _)| known != key);
    }

    fn clear(&self) {
        self.0.lock().unwrap().clear();
    }
}

#[test]
fn the_plainest_store_is_enough_and_what_it_says_of_time_is_not_believed() {
    let server = Server::start(active_after(Duration::ZERO));
    let provider = server.provider(&[("cache_ttl", "1s")]);
    let shelf = Arc::new(Shelf::default());
    let [one, two] = [(); 2].map(|()| sharing(&provider, shelf.clone()));
    assert_eq!(resolve(&one, "t").unwrap().cache, CacheStatus::Miss);
    assert_eq!(resolve(&two, "t").unwrap().cache, CacheStatus::Shared);
    two.purge(token("t")).unwrap();
    assert_eq!(resolve(&two, "t").unwrap().cache, CacheStatus::Miss);
    // The store reports that it keeps every entry for ever.
    thread::sleep(Duration::from_millis(3100));
    assert_eq!(resolve(&one, "t").unwrap().cache, CacheStatus::Miss);
}

#[test]
fn a_store_is_shown_nothing_and_what_it_made_up_or_changed_is_a_miss() {
    let server = Server::start(active_after(Duration::ZERO));
    let provider = server.provider(&[("cache_size", "0")]);
    let shelf = Arc::new(Shelf::default());
    let client = sharing(&provider, shelf.clone());
    resolve(&client, "secret-token").unwrap();
    let jwt = jwt_of("secret-token");
    shelf.tamper(|value| {
        for secret in [
            b"secret-token".as_slice(),
            jwt.as_bytes(),
            &jwt.as_bytes()[..30],
        ] {
            assert!(!value.windows(secret.len()).any(|window| window == secret));
        }
    });
    assert_eq!(
        resolve(&client, "secret-token").unwrap().cache,
        CacheStatus::Shared
    );

    let changes: [fn(&mut Vec<u8>); 6] = [
        |value| value[40] ^= 1,
        |value| value[1] ^= 3,
        |value| value.truncate(20),
        |value| value.clear(),
        |value| value.push(0),
        |value| *value = vec![1; 3 << 20],
    ];
    for change in changes {
        shelf.tamper(change);
        let again = resolve(&client, "secret-token").unwrap();
        assert_eq!(
            (subject(&again).as_str(), again.cache),
            ("secret-token", CacheStatus::Miss)
        );
    }
    // An entry of one token can't be decrypted with another.
    resolve(&client, "other").unwrap();
    let values: Vec<_> = shelf
        .0
        .lock()
        .unwrap()
        .iter()
        .map(|(_, value)| value.clone())
        .collect();
    shelf
        .0
        .lock()
        .unwrap()
        .iter_mut()
        .zip(values.iter().rev())
        .for_each(|((_, value), other)| {
            value.clone_from(other);
        });
    assert_eq!(subject(&resolve(&client, "other").unwrap()), "other");
    assert_eq!(
        subject(&resolve(&client, "secret-token").unwrap()),
        "secret-token"
    );
}

/// A store that always reports a lookup by another process.
struct Busy;

impl Store for Busy {
    fn version(&self, _: &Key) -> Option<Version> {
        Some(Version::default())
    }

    fn get(&self, _: &Key, _: &mut Vec<u8>) -> Option<Duration> {
        None
    }

    fn put(&self, _: &Key, _: &[u8], _: Class, _: Duration, _: Version) -> bool {
        true
    }

    fn remove(&self, _: &Key) {}

    fn clear(&self) {}

    fn lease(&self, _: &Key, _: &FetchLease) -> LeaseOutcome {
        LeaseOutcome::Held(1)
    }

    fn words(&self) -> Option<&SharedAtomics> {
        None
    }
}

#[test]
fn a_store_in_which_another_never_ends_holds_nobody_up_past_the_deadline() {
    let server = Server::start(active_after(Duration::ZERO));
    let client = sharing(&server.provider(&[("timeout", "300ms")]), Arc::new(Busy));
    let started = Instant::now();
    let error = resolve(&client, "t").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(
        error.message().contains("another process was asking"),
        "{error}"
    );
    assert!(started.elapsed() < Duration::from_secs(2));
}
