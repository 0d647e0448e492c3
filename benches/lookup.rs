//! What a hit costs, with few and with many tokens remembered: `cargo bench --bench lookup`.
//!
//! The tokens are asked for in a random order over all of them, so that with a million entries every access is to
//! memory that no cache of the processor holds; that is the worst that traffic can do.

#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use phantom_token::{Client, CompletionQueue, Submitted, Token};
use support::{Server, bare_jwt, jwt};

/// A JWT of about 1 KB, as servers hand them out.
fn kilobyte_jwt() -> String {
    let padding = "x".repeat(600);
    jwt(&format!(
        r#"{{"iss":"https://as.example.com","sub":"alice","scope":"openid read","padding":"{padding}"}}"#
    ))
}

fn token_name(number: usize) -> String {
    // As long as the tokens that servers hand out.
    format!("{number:032x}")
}

/// A client that remembers `entries` tokens.
fn remembering(entries: usize) -> (Server, Client) {
    let answer = kilobyte_jwt();
    let server = Server::start(move |_| bare_jwt(&answer));
    let client = server.client(&[
        ("cache_size", "16g"),
        ("cache_entries", "4000000"),
        ("cache_ttl", "1d"),
        ("max_concurrent", "16"),
        ("timeout", "10m"),
    ]);
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

/// Names in a random order, more than any cache of the processor remembers.
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

fn lookup(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lookup hit");
    for entries in [1_000, 1_000_000] {
        let (_server, client) = remembering(entries);
        let names = shuffled(entries);
        let mut next = names.iter().cycle();
        group.bench_function(BenchmarkId::new("Client::lookup", entries), |bencher| {
            bencher.iter(|| {
                let name = next.next().unwrap();
                let token = Token::parse(name.as_bytes()).unwrap();
                black_box(client.lookup(token).unwrap().unwrap())
            });
        });
        let key = phantom_token::token::Fingerprint::of(b"bench");
        group.bench_function(BenchmarkId::new("SHA-256 alone", entries), |bencher| {
            bencher.iter(|| {
                let name = next.next().unwrap();
                let token = Token::parse(name.as_bytes()).unwrap();
                black_box(phantom_token::token::Key::new(&key, token))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, lookup);
criterion_main!(benches);
