//! Alone in its process, because the allocator is the whole process's.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use phantom_token::gateway::gate::{Gate, Presentation};
use phantom_token::gateway::requirements::{Expected, TokenRequirements};
use phantom_token::jwt::Claims;
use phantom_token::token::ContextBuilder;
use phantom_token::{CompletionQueue, Submitted, Token, Verdict};
use support::{Server, active_after};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is handed on to the system's allocator as it came; counting touches only a thread-local that
// needs no allocation and no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are the system allocator's own.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are the system allocator's own.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are the system allocator's own.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_hit_allocates_nothing() {
    let server = Server::start(active_after(Duration::ZERO));
    let client = server.client(&[]);
    let queue = CompletionQueue::new().unwrap();
    let long = "l".repeat(8192);
    for text in ["opaque", &long] {
        let token = Token::parse(text.as_bytes()).unwrap();
        client.resolve(token, None).unwrap();

        let before = ALLOCATIONS.get();
        for _ in 0..100 {
            let resolution = client.lookup(token).unwrap().unwrap();
            std::hint::black_box(&resolution);
        }
        assert_eq!(
            ALLOCATIONS.get() - before,
            0,
            "lookup, {} bytes",
            text.len()
        );

        let before = ALLOCATIONS.get();
        for _ in 0..100 {
            let submitted = client.submit(token, &queue, 0);
            assert!(matches!(submitted, Submitted::Ready(Ok(_))));
        }
        assert_eq!(
            ALLOCATIONS.get() - before,
            0,
            "submit, {} bytes",
            text.len()
        );
    }
    let context = |host: &[u8]| {
        let mut context = ContextBuilder::default();
        context.add(host);
        context.finish()
    };
    let token = Token::parse(b"opaque").unwrap();
    let wait = || client.submit_within(&context(b"a.example.com"), token, &queue, 0);
    while !matches!(wait(), Submitted::Ready(Ok(_))) {
        std::thread::sleep(Duration::from_millis(5));
    }
    let before = ALLOCATIONS.get();
    for _ in 0..100 {
        assert!(matches!(wait(), Submitted::Ready(Ok(_))));
    }
    assert_eq!(ALLOCATIONS.get() - before, 0, "submit_within");

    let before = ALLOCATIONS.get();
    std::hint::black_box(vec![1u8; 10]);
    assert_eq!(ALLOCATIONS.get() - before, 1, "the counter counts");
}

#[test]
fn a_policy_is_checked_without_an_allocation_whatever_comes_of_it() {
    let mut policy = TokenRequirements::default();
    for (key, values) in [
        ("scopes", &["admin"][..]),
        ("scopes", &["read", "write"]),
        ("scope", &["api"]),
        ("audience", &["api"]),
        ("issuer", &["https://as.example.com"]),
        ("client", &["web"]),
        ("require", &["tenant", "acme", "~^test-[0-9]+$", "~*beta"]),
        ("require", &["level", "7.5"]),
        ("require", &["details.type", "payment"]),
        ("require", &["email_verified"]),
        ("acr", &["gold"]),
        ("max_age", &["5m"]),
    ] {
        policy.set(key, values).unwrap();
    }
    policy
        .add_requirement("host", vec![Expected::Slot(0)])
        .unwrap();
    let good = r#"{
        "scope": "read write api", "aud": ["api"], "iss": "https://as.example.com", "client_id": "web",
        "tenant": ["test-1", "test-2"], "level": 7.5, "details": [{"type": "account"}, {"type": "payment"}],
        "email_verified": true, "acr": "gold", "auth_time": 1700000000, "host": "a.example.com"
    }"#;
    for (token, reason) in [
        (good.to_owned(), "ok"),
        (good.replace("write", "list"), "scope:admin"),
        (good.replace(r#"["api"]"#, r#""other""#), "audience"),
        (good.replace("test-", "prod-"), "claim:tenant"),
        (good.replace("7.5", "7.25"), "claim:level"),
        (good.replace("payment", "other"), "claim:details.type"),
        (good.replace("a.example", "b.example"), "claim:host"),
        (good.replace("gold", "tin"), "acr"),
        (good.replace("1700000000", "1600000000"), "max_age"),
    ] {
        let claims = Claims::from_json(&token).unwrap();
        let check = || {
            let host: &[u8] = b"a.example.com";
            policy
                .check(&claims, 1_700_000_100, &mut |_| Some(host))
                .map_or_else(|denial| denial.reason, |()| "ok")
        };
        // A regular expression makes room for its matching when it is first used.
        assert_eq!(check(), reason);
        let before = ALLOCATIONS.get();
        for _ in 0..100 {
            std::hint::black_box(check());
        }
        assert_eq!(ALLOCATIONS.get() - before, 0, "{reason}");
    }
}

#[test]
fn a_request_that_may_pass_a_gate_allocates_nothing() {
    let server = Server::start(active_after(Duration::ZERO));
    let client = server.client(&[]);
    let token = Token::parse(b"opaque").unwrap();
    let resolution = client.resolve(token, None).unwrap();
    let Verdict::Active(active) = resolution.verdict else {
        panic!("it is active");
    };
    let mut gate = Gate::default();
    gate.set("require", "sub ~.").unwrap();
    let presented = Presentation {
        authorization: Some(b"Bearer opaque"),
        method: b"GET",
        url: b"https://api.example.com/orders",
        ..Presentation::default()
    };
    let check = || {
        let mut first_use = |proof: &_, time| client.first_use(proof, time);
        gate.check(&active, Some(&presented), 1_700_000_000, &mut first_use)
    };
    assert_eq!(check().map(drop), Ok(()));
    let before = ALLOCATIONS.get();
    for _ in 0..100 {
        std::hint::black_box(check()).unwrap();
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
}
