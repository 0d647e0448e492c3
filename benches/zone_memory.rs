//! Memory of an entry in a zone: `cargo bench --bench zone_memory`.
//!
//! The entries are real, with JWTs of about 1 KB and different lengths: the unused part of an entry's last block
//! depends on the length. One client looks up the tokens, another one decrypts all entries.

#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::Duration;

use phantom_token::cache::{Attached, Zone};
use phantom_token::{Client, ClientOptions, CompletionQueue, Provider, Submitted, Token, Verdict};
use support::{Server, bare_jwt, jwt};

const TOKENS: usize = 20_000;
/// The overhead of sealing for a JWT that contains all claims: see `sealed.rs`.
const SEAL: usize = 70;

const SETTINGS: [(&str, &str); 5] = [
    ("cache_size", "1g"),
    ("cache_entries", "4000000"),
    ("cache_ttl", "1d"),
    ("max_concurrent", "16"),
    ("timeout", "10m"),
];

fn main() {
    let server = Server::start(|call| {
        let number: usize = call.token().parse().unwrap();
        let padding = "x".repeat(545 + number * 7 % 230);
        bare_jwt(&jwt(&format!(
            r#"{{"iss":"https://as.example.com","sub":"alice","scope":"openid read","padding":"{padding}"}}"#
        )))
    });
    let provider = server.provider(&SETTINGS);

    let zone = zone(64 << 20);
    let client = sharing(&provider, &zone);
    let lengths = resolve_all(&client);
    let [least, most] = [lengths.iter().min(), lengths.iter().max()].map(Option::unwrap);
    let mean = lengths.iter().sum::<usize>() as f64 / TOKENS as f64;
    println!("{TOKENS} tokens, JWTs of {least} to {most} bytes, {mean:.0} on average");

    let counts = zone.counts();
    assert_eq!((counts.entries, counts.evictions), (TOKENS as u64, 0));
    told(
        "what an entry takes",
        counts.bytes as f64,
        TOKENS as u64,
        mean,
    );

    let other = sharing(&provider, &zone);
    resolve_all(&other);
    assert_eq!(
        other.stats().shared_hits,
        TOKENS as u64,
        "all can be opened"
    );

    let size = 8 << 20;
    let full = self::zone(size);
    resolve_all(&sharing(&provider, &full));
    let counts = full.counts();
    assert!(counts.evictions > 0);
    // The part for active verdicts is 13 of 16; the rest is for inactive verdicts and for leases.
    told(
        "of a zone that is full, all included",
        size as f64 * 13.0 / 16.0,
        counts.entries,
        mean,
    );
    told(
        "with what is kept for inactive verdicts and claims",
        size as f64,
        counts.entries,
        mean,
    );
}

fn told(what: &str, bytes: f64, entries: u64, jwt: f64) {
    let each = bytes / entries as f64;
    println!(
        "{what}: {each:.0} bytes each, {:.0} beyond the sealed value, {:.0} beyond the JWT ({entries} entries)",
        each - jwt - SEAL as f64,
        each - jwt,
    );
}

/// A zone in new memory, which is never freed.
fn zone(size: usize) -> Arc<Zone> {
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
    // SAFETY: the memory is new, aligned to a page, and never unmapped.
    let (zone, attached) = unsafe { Zone::attach(memory.cast(), size) }.unwrap();
    assert_eq!(attached, Attached::New);
    zone
}

fn sharing(provider: &Arc<Provider>, zone: &Arc<Zone>) -> Client {
    let surroundings = ClientOptions {
        store: Some(Arc::new(zone.store(provider.fingerprint()))),
        ..ClientOptions::default()
    };
    Client::start_with(Arc::clone(provider), surroundings).unwrap()
}

/// Resolves all tokens, and returns the lengths of their JWTs.
fn resolve_all(client: &Client) -> Vec<usize> {
    let queue = CompletionQueue::new().unwrap();
    let mut lengths = Vec::new();
    let mut add = |outcome: Result<phantom_token::Resolution, phantom_token::Error>| {
        let Verdict::Active(active) = outcome.unwrap().verdict else {
            panic!("all of them are active");
        };
        lengths.push(active.jwt_after_sender_check().len());
    };
    let mut finished = Vec::new();
    for chunk in (0..TOKENS).collect::<Vec<_>>().chunks(1024) {
        let mut pending = 0;
        for number in chunk {
            let name = format!("{number:032}");
            match client.submit(Token::parse(name.as_bytes()).unwrap(), &queue, 0) {
                Submitted::Ready(outcome) => add(outcome),
                Submitted::Pending(_) => pending += 1,
            }
        }
        while pending > 0 {
            pending -= queue.drain(&mut finished, usize::MAX);
            if pending > 0 {
                std::thread::sleep(Duration::from_micros(200));
            }
        }
        finished.drain(..).for_each(|done| add(done.outcome));
    }
    lengths
}
