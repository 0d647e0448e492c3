//! Cost of a cache hit, with few and with many tokens in memory: `cargo bench --bench lookup`.
//!
//! The tokens are looked up in random order. With a million entries, every access misses all processor caches: the
//! worst case of traffic. Over a thousand of these tokens it is typical traffic.

#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::collections::hash_map::RandomState;
use std::ffi::c_void;
use std::hash::{BuildHasher, Hasher};
use std::hint::black_box;
use std::ptr::null_mut;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use lru::LruCache;
use parking_lot::Mutex;
use phantom_token::cache::MemoryCache;
use phantom_token::ffi::client::{
    phantom_client, phantom_client_free, phantom_client_lookup, phantom_client_start,
};
use phantom_token::ffi::config::{phantom_config_free, phantom_config_new, phantom_config_set};
use phantom_token::ffi::events::{phantom_client_dispatch, phantom_client_submit};
use phantom_token::ffi::result::{phantom_result, phantom_result_free};
use phantom_token::ffi::status::phantom_status;
use phantom_token::ffi::status::phantom_status::{PHANTOM_OK, PHANTOM_PENDING};
use phantom_token::jwt::{Claims, check_compact};
use phantom_token::token::{Fingerprint, Key};
use phantom_token::{Active, Client, CompletionQueue, Submitted, Token, Verdict, clock};
use support::{Server, bare_jwt, jwt};

/// A JWT of about 1 KB, as authorization servers issue them.
fn kilobyte_jwt() -> String {
    let padding = "x".repeat(600);
    jwt(&format!(
        r#"{{"iss":"https://as.example.com","sub":"alice","scope":"openid read","padding":"{padding}"}}"#
    ))
}

fn token_name(number: usize) -> String {
    // As long as the tokens that authorization servers issue.
    format!("{number:032x}")
}

const SETTINGS: [(&str, &str); 5] = [
    ("cache_size", "16g"),
    ("cache_entries", "4000000"),
    ("cache_ttl", "1d"),
    ("max_concurrent", "16"),
    ("timeout", "10m"),
];

/// A client with `entries` cached tokens.
fn remembering(entries: usize) -> (Server, Client) {
    let answer = kilobyte_jwt();
    let server = Server::start(move |_| bare_jwt(&answer));
    let client = server.client(&SETTINGS);
    let queue = CompletionQueue::new().unwrap();
    let mut finished = Vec::new();
    for chunk in (0..entries).collect::<Vec<_>>().chunks(4096) {
        let mut pending = 0;
        for &number in chunk {
            let name = token_name(number);
            let token = Token::parse(name.as_bytes()).unwrap();
            if let Submitted::Pending(_) = client.submit(token, &queue, 0) {
                pending += 1;
            }
        }
        while pending > 0 {
            pending -= queue.drain(&mut finished, usize::MAX);
            if pending > 0 {
                std::thread::sleep(Duration::from_micros(200));
            }
        }
        finished
            .drain(..)
            .for_each(|done| drop(done.outcome.unwrap()));
    }
    assert_eq!(client.stats().entries, entries as u64);
    (server, client)
}

/// Names of tokens in random order, more than any processor cache can hold.
fn shuffled(entries: usize) -> Vec<String> {
    let random = RandomState::new();
    (0..(1 << 18).min(entries * 64))
        .map(|step| {
            let mut hasher = random.build_hasher();
            hasher.write_usize(step);
            token_name((hasher.finish() % entries as u64) as usize)
        })
        .collect()
}

/// A hit in the memory cache alone, and the share of the `lru` crate: its `get`, under a lock, with a copy of the
/// pointer. The keys of the tokens are precomputed, so that neither includes SHA-256.
fn memory(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("memory hit");
    let payload = kilobyte_jwt();
    let jwt = check_compact(payload.as_bytes()).unwrap();
    let key = |name: &String| {
        let fingerprint = Fingerprint::of(b"bench");
        Key::new(&fingerprint, Token::parse(name.as_bytes()).unwrap())
    };
    for entries in [1_000, 100_000, 1_000_000] {
        let now = clock::now();
        let cache = MemoryCache::new(16 << 30, 4_000_000);
        let plain = Mutex::new(LruCache::unbounded());
        for number in 0..entries {
            let active = Arc::new(Active::new(&jwt, Claims::empty()));
            let key = key(&token_name(number));
            let day = Duration::from_secs(86_400);
            cache.put(key, &Verdict::Active(active.clone()), day.into(), now, 0);
            plain.lock().put(key, active);
        }
        let keys: Vec<_> = shuffled(entries).iter().map(key).collect();
        let mut next = keys.iter().cycle();
        group.bench_function(BenchmarkId::new("MemoryCache::get", entries), |bencher| {
            bencher.iter(|| black_box(cache.get(next.next().unwrap(), clock::now(), 0).unwrap()));
        });
        group.bench_function(BenchmarkId::new("LruCache::get", entries), |bencher| {
            bencher.iter(|| black_box(plain.lock().get(next.next().unwrap()).unwrap().clone()));
        });
    }
    group.finish();
}

fn lookup(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lookup hit");
    for entries in [1_000, 100_000, 1_000_000] {
        let (_server, client) = remembering(entries);
        // All of the tokens, and a thousand of them: active clients send the same tokens again.
        for asked in BTreeSet::from([entries, 1_000]) {
            let names = shuffled(asked);
            let mut next = names.iter().cycle();
            let name = format!("{asked} of {entries}");
            group.bench_function(BenchmarkId::new("Client::lookup", name), |bencher| {
                bencher.iter(|| {
                    let name = next.next().unwrap();
                    let token = Token::parse(name.as_bytes()).unwrap();
                    black_box(client.lookup(token).unwrap().unwrap())
                });
            });
        }
    }
    group.finish();
}

/// The same through the C ABI: the cost of a call from C, including argument checks and the reference to the result.
fn c_call(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("phantom_client_lookup hit");
    for entries in [1_000, 100_000, 1_000_000] {
        let answer = kilobyte_jwt();
        let server = Server::start(move |_| bare_jwt(&answer));
        let client = CClient::start(&server);
        for chunk in (0..entries).collect::<Vec<_>>().chunks(4096) {
            for &number in chunk {
                client.submit(&token_name(number));
            }
            client.dispatch(chunk.len());
        }
        for asked in BTreeSet::from([entries, 1_000]) {
            let names = shuffled(asked);
            let mut next = names.iter().cycle();
            let name = format!("{asked} of {entries}");
            group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
                bencher.iter(|| client.lookup(next.next().unwrap()));
            });
        }
    }
    group.finish();
}

extern "C" fn remembered(_: *mut c_void, status: phantom_status, result: *mut phantom_result) {
    assert_eq!(status, PHANTOM_OK);
    // SAFETY: the result is the callback's own, and freed once.
    unsafe { phantom_result_free(result) };
}

/// A client of the C ABI, used as a C program would.
struct CClient(*mut phantom_client);

impl CClient {
    fn start(server: &Server) -> Self {
        let mut config = null_mut();
        let mut client = null_mut();
        let endpoint = server.url();
        // SAFETY: every pointer is to live storage of the length that goes with it; the configuration is alive until
        // it is freed, once, and the client copies what it needs of it.
        unsafe {
            assert_eq!(
                phantom_config_new(c"bench".as_ptr(), 5, &raw mut config),
                PHANTOM_OK
            );
            for (key, value) in SETTINGS
                .into_iter()
                .chain([("introspection_endpoint", &*endpoint)])
            {
                let (k, v) = (key.as_ptr().cast(), value.as_ptr().cast());
                assert_eq!(
                    phantom_config_set(config, k, key.len(), v, value.len()),
                    PHANTOM_OK
                );
            }
            assert_eq!(phantom_client_start(config, &raw mut client), PHANTOM_OK);
            phantom_config_free(config);
        }
        CClient(client)
    }

    fn submit(&self, name: &str) {
        let mut result = null_mut();
        // SAFETY: the client is alive; the token is live for the call, `result` is ours to write to; the callback is
        // sound with any user data.
        let status = unsafe {
            phantom_client_submit(
                self.0,
                name.as_ptr().cast(),
                name.len(),
                Some(remembered),
                null_mut(),
                null_mut(),
                &raw mut result,
            )
        };
        assert_eq!(status, PHANTOM_PENDING);
    }

    /// Calls back for `count` verdicts.
    fn dispatch(&self, mut count: usize) {
        while count > 0 {
            let mut ran = 0;
            // SAFETY: the client is alive, and `ran` is ours to write to.
            let status = unsafe { phantom_client_dispatch(self.0, 0, &raw mut ran) };
            assert_eq!(status, PHANTOM_OK);
            count -= ran;
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    fn lookup(&self, name: &str) {
        let mut result = null_mut();
        // SAFETY: the client is alive; the token is live for the call; the result is freed once.
        unsafe {
            let status =
                phantom_client_lookup(self.0, name.as_ptr().cast(), name.len(), &raw mut result);
            assert_eq!(status, PHANTOM_OK);
            phantom_result_free(black_box(result));
        }
    }
}

impl Drop for CClient {
    fn drop(&mut self) {
        // SAFETY: it is alive, and nobody uses it afterwards.
        unsafe { phantom_client_free(self.0) };
    }
}

criterion_group!(benches, memory, lookup, c_call);
criterion_main!(benches);
