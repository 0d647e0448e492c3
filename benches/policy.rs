//! Cost of a policy in addition to a cache hit: `cargo bench --bench policy`.

#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use phantom_token::gateway::requirements::TokenRequirements;
use phantom_token::{Token, Verdict};
use support::{Server, bare_jwt, jwt};

/// Claims as authorization servers issue them.
const CLAIMS: &str = r#"{
    "iss": "https://as.example.com", "sub": "8f3c0a52-1f0e-4f4e-9d3a-0c1b2a394857", "aud": ["api", "account"],
    "client_id": "web", "scope": "openid profile email read write", "tenant": "acme", "acr": "gold",
    "iat": 1700000000, "auth_time": 1700000000, "jti": "c1b2a394857f3c0a", "typ": "Bearer",
    "realm_access": {"roles": ["offline_access", "user", "admin"]}, "name": "Alice Example", "email_verified": true
}"#;

fn policy(parts: &[(&str, &[&str])]) -> TokenRequirements {
    let mut policy = TokenRequirements::default();
    for (key, values) in parts {
        policy.set(key, values).unwrap();
    }
    policy
}

fn hit(criterion: &mut Criterion) {
    let answer = jwt(CLAIMS);
    let server = Server::start(move |_| bare_jwt(&answer));
    let client = server.client(&[]);
    let token = Token::parse(b"8f3c0a521f0e4f4e9d3a0c1b2a394857").unwrap();
    client.resolve(token, None).unwrap();

    let mut group = criterion.benchmark_group("hit");
    for (name, policy) in [
        ("bare", TokenRequirements::default()),
        (
            "two scopes and a claim",
            policy(&[
                ("scopes", &["read", "write"]),
                ("require", &["tenant", "acme"]),
            ]),
        ),
        (
            "a claim in a list",
            policy(&[("require", &["realm_access.roles", "admin"])]),
        ),
        (
            "a regular expression",
            policy(&[("require", &["tenant", "~^ac[a-z]+$"])]),
        ),
        (
            "everything",
            policy(&[
                ("scopes", &["read", "write"]),
                ("audience", &["api"]),
                ("issuer", &["https://as.example.com"]),
                ("client", &["web"]),
                ("require", &["tenant", "acme"]),
                ("acr", &["gold"]),
                ("max_age", &["5m"]),
            ]),
        ),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let resolution = client.lookup(token).unwrap().unwrap();
                let Verdict::Active(active) = &resolution.verdict else {
                    return false;
                };
                let passes = black_box(&policy).is_empty()
                    || policy
                        .check(active.claims(), black_box(1_700_000_100), &mut |_| None)
                        .is_ok();
                assert!(passes);
                passes
            });
        });
    }
    group.finish();
}

criterion_group!(benches, hit);
criterion_main!(benches);
