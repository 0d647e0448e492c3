//! A cache hit allocates nothing. This test has a process of its own, because the allocator is shared by the whole
//! process.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use phantom_token::gateway::access_policy::{AccessPolicy, Decision, HeaderChange, Resolved};
use phantom_token::gateway::credentials::Credentials;
use phantom_token::gateway::requirements::{Expected, TokenRequirements};
use phantom_token::gateway::sender::{Proof, RequestContext, Uri};
use phantom_token::jwt::Claims;
use phantom_token::token::ContextBuilder;
use phantom_token::{CompletionQueue, Submitted, Token, Verdict};
use support::{Server, active_after};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is passed unchanged to the system's allocator; counting touches only a thread-local that
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
fn requirements_are_checked_without_an_allocation_whatever_comes_of_it() {
    let mut requirements = TokenRequirements::default();
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
        requirements.set(key, values).unwrap();
    }
    requirements
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
            requirements
                .check(&claims, 1_700_000_100, &mut |_| Some(host))
                .map_or_else(|denial| denial.reason, |()| "ok")
        };
        // A regular expression allocates memory for its matching when it is first used.
        assert_eq!(check(), reason);
        let before = ALLOCATIONS.get();
        for _ in 0..100 {
            std::hint::black_box(check());
        }
        assert_eq!(ALLOCATIONS.get() - before, 0, "{reason}");
    }
}

#[test]
fn a_request_that_goes_on_allocates_nothing() {
    let server = Server::start(active_after(Duration::ZERO));
    let client = server.client(&[]);
    let token = Token::parse(b"opaque").unwrap();
    let resolution = client.resolve(token, None).unwrap();
    let Verdict::Active(active) = resolution.verdict else {
        panic!("it is active");
    };
    let mut policy = AccessPolicy::default();
    for (key, value) in [
        ("require", "sub ~."),
        ("source", "authorization cookie session query access_token"),
        ("forward", "header X-Jwt"),
    ] {
        policy.set(key, value).unwrap();
    }
    let headers = [
        (&b"Host"[..], &b"api.example.com"[..]),
        (b"Authorization", b"Bearer opaque"),
        (b"Cookie", b"theme=dark"),
    ];
    let decide = || {
        let decoded = Default::default();
        let fields = headers.iter().copied();
        let presented = Credentials::read(policy.sources(), fields, b"/orders?a=b", &decoded);
        assert!(policy.token(&presented).is_ok_and(|token| token.is_some()));
        let request = RequestContext {
            scheme: presented.scheme(),
            method: b"GET",
            uri: Uri::Whole(b"https://api.example.com/orders"),
            proof: Proof::None,
            certificate: &|| None,
        };
        let mut first_use = |proof: &_, time| client.first_use(proof, time);
        let resolved = Resolved::Active(&*active);
        let now = 1_700_000_000;
        match policy.decide_request(&presented, resolved, &request, now, &mut first_use) {
            Decision::Admitted(admitted) => {
                let mut set = false;
                let fields = headers.iter().copied();
                policy.change_request(Some(&admitted), fields, &mut |change| {
                    set |= matches!(change, HeaderChange::Set("X-Jwt", _));
                });
                set && policy.change_target(b"/orders?a=b").is_none()
                    && policy.added_headers(&admitted, now).is_none()
            }
            Decision::Anonymous | Decision::Denied(_) => false,
        }
    };
    assert!(decide());
    let before = ALLOCATIONS.get();
    for _ in 0..100 {
        assert!(std::hint::black_box(decide()));
    }
    assert_eq!(ALLOCATIONS.get() - before, 0);
}

#[test]
#[cfg(feature = "c-abi")]
fn a_decision_in_c_that_lets_a_request_go_on_allocates_nothing() {
    use std::ptr;

    use phantom_token::ffi::decision::{
        phantom_decision_free, phantom_decision_new, phantom_decision_request_header,
        phantom_header, phantom_policy_decide, phantom_policy_token, phantom_request,
    };
    use phantom_token::ffi::policy::{phantom_policy_free, phantom_policy_new};
    use phantom_token::ffi::result::phantom_result_free;
    use phantom_token::ffi::status::phantom_status::PHANTOM_OK;

    let server = Server::start(active_after(Duration::ZERO));
    let config = phantom_token::ffi::config::phantom_config_new;
    let set = phantom_token::ffi::config::phantom_config_set_str;
    let url = std::ffi::CString::new(server.url()).unwrap();
    // SAFETY: every pointer is valid, or NULL where that is allowed. Texts end in a NUL or have the given length. Every
    // object is freed once, at the end.
    unsafe {
        let (mut settings, mut client) = (ptr::null_mut(), ptr::null_mut());
        assert_eq!(config(c"main".as_ptr(), 4, &raw mut settings), PHANTOM_OK);
        for (key, value) in [
            (c"introspection_endpoint", url.as_c_str()),
            (c"client_id", c"gateway"),
            (c"client_secret", c"secret"),
        ] {
            assert_eq!(set(settings, key.as_ptr(), value.as_ptr()), PHANTOM_OK);
        }
        let start = phantom_token::ffi::client::phantom_client_start;
        assert_eq!(start(settings, &raw mut client), PHANTOM_OK);
        let (mut policy, mut decision) = (ptr::null_mut(), ptr::null_mut());
        assert_eq!(phantom_policy_new(&raw mut policy), PHANTOM_OK);
        assert_eq!(phantom_decision_new(&raw mut decision), PHANTOM_OK);
        let headers = [
            ("Host", "api.example.com"),
            ("authorization", "Bearer opaque"),
        ]
        .map(|(name, value)| phantom_header {
            name: name.as_ptr().cast(),
            name_length: name.len(),
            value: value.as_ptr().cast(),
            value_length: value.len(),
        });
        let request = phantom_request {
            size: size_of::<phantom_request>(),
            method: c"GET".as_ptr(),
            method_length: 3,
            target: c"/orders".as_ptr(),
            target_length: 7,
            headers: headers.as_ptr(),
            header_count: headers.len(),
            scheme: ptr::null(),
            scheme_length: 0,
            url: ptr::null(),
            url_length: 0,
            client_certificate: ptr::null(),
            client_certificate_length: 0,
        };
        let mut resolved = ptr::null_mut();
        let resolve = phantom_token::ffi::client::phantom_client_resolve;
        let opaque = c"opaque".as_ptr();
        assert_eq!(resolve(client, opaque, 6, 0, &raw mut resolved), PHANTOM_OK);
        phantom_result_free(resolved);
        let once = || {
            let (mut token, mut length) = (ptr::null(), 0);
            let found =
                phantom_policy_token(policy, &request, decision, &raw mut token, &raw mut length);
            assert_eq!(found, PHANTOM_OK);
            let mut result = ptr::null_mut();
            let lookup = phantom_token::ffi::client::phantom_client_lookup;
            let found = lookup(client, token, length, &raw mut result);
            assert_eq!(found, PHANTOM_OK);
            let ok = PHANTOM_OK as i32;
            let decided = phantom_policy_decide(policy, client, &request, ok, -1, result, decision);
            assert_eq!(decided, PHANTOM_OK);
            let (mut value, mut size) = (ptr::null(), 0);
            let name = phantom_decision_request_header(decision, 0, &raw mut value, &raw mut size);
            assert!(!name.is_null() && !value.is_null() && size > 7);
            phantom_result_free(result);
        };
        once();
        let before = ALLOCATIONS.get();
        (0..100).for_each(|_| once());
        assert_eq!(ALLOCATIONS.get() - before, 0);
        phantom_decision_free(decision);
        phantom_policy_free(policy);
        phantom_token::ffi::client::phantom_client_free(client);
        phantom_token::ffi::config::phantom_config_free(settings);
    }
}
