//! Fuzz targets: one function for each parser of untrusted input, which panics when a promise does not hold.
//!
//! Each function checks more than the absence of panics: what must be true for any input, computed
//! in another way than the parser does. Examples: an inactive token lets no request in; only bytes of a JWT reach a
//! header; no time is later than the input says; an error shows no JWT.
//!
//! Inputs are text where that is possible, so that they can be read and written by hand: see the corpus in `fuzz/corpus/`. The
//! unit tests replay it; `make fuzz` searches for more. The module exists only for these, behind the feature `fuzzing`.

mod authorization;
mod claims;
mod config;
mod dpop;
mod introspection;
mod jwks;
mod message;
mod metadata;
mod policy;
mod purge;
mod source;
mod status;
mod token_response;
mod verify;

pub use authorization::authorization;
pub use claims::claims;
pub use config::config;
pub use dpop::{certificate, dpop};
pub use introspection::introspection;
pub use jwks::jwks;
pub use metadata::metadata;
pub use policy::{claim_path, policy};
pub use purge::purge;
pub use source::source;
pub use status::status;
pub use token_response::token_response;
pub use verify::verify;

use std::collections::HashSet;

/// The fixed time of all targets, in seconds since the epoch.
const NOW: i64 = 1_700_000_000;

/// A function that takes any bytes.
pub type Target = fn(&[u8]);

/// All targets by name, which is also that of the program in `fuzz/fuzz_targets/` and of the folder of its corpus.
pub const TARGETS: &[(&str, Target)] = &[
    ("authorization", authorization),
    ("certificate", certificate),
    ("claim_path", claim_path),
    ("claims", claims),
    ("config", config),
    ("dpop", dpop),
    ("introspection", introspection),
    ("jwks", jwks),
    ("metadata", metadata),
    ("policy", policy),
    ("purge", purge),
    ("source", source),
    ("status", status),
    ("token_response", token_response),
    ("verify", verify),
];

/// Asserts that a text is fit for a log: of limited length, and without control characters.
fn assert_fit_for_a_log(message: &str) {
    assert!(message.len() < 4096, "too long: {}", message.len());
    assert!(!message.chars().any(char::is_control), "{message:?}");
}

/// Whether a JSON text is unambiguous: no object has a duplicate name, and no integer is one of several
/// that are the same `f64`. Computed from the text, which is known to be JSON, without a parser.
fn is_unambiguous(json: &[u8]) -> bool {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let mut objects: Vec<Option<HashSet<String>>> = Vec::new();
    let mut at = 0;
    while at < json.len() {
        let start = at;
        at += 1;
        match json[start] {
            b'{' => objects.push(Some(HashSet::new())),
            b'[' => objects.push(None),
            b'}' | b']' => drop(objects.pop()),
            b'"' => {
                while json[at] != b'"' {
                    at += if json[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
                let next = json[at..].trim_ascii_start().first();
                let name = serde_json::from_slice(&json[start..at]).expect("it is a string");
                if next == Some(&b':')
                    && let Some(Some(names)) = objects.last_mut()
                    && !names.insert(name)
                {
                    return false;
                }
            }
            b'-' | b'0'..=b'9' => {
                while at < json.len()
                    && matches!(json[at], b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-')
                {
                    at += 1;
                }
                let number = std::str::from_utf8(&json[start..at]).expect("it is ASCII");
                let exact = number.parse::<u64>().is_ok() || number.parse::<i64>().is_ok();
                if !exact
                    && number
                        .parse::<f64>()
                        .is_ok_and(|number| number.abs() >= EXACT)
                {
                    return false;
                }
            }
            _ => {}
        }
    }
    true
}

#[cfg(test)]
mod tests;
