//! Sealed verdicts: bytes that reveal nothing to a party that does not have the token.
//!
//! The contents of a store may be read by others: from a core file of a gateway, by other users of the machine, or one
//! day by a server across the network. So a verdict leaves the process sealed, under a key that is derived from the
//! opaque token and stored nowhere. A party that presents the token can open the verdict cached for it. No other party
//! can, and neither can we. The contents of a store may also have been written by others. So an entry is used only if
//! it is authentic, and only for the token and the provider that it was sealed for.
//!
//! ```text
//! version 1 | type 1 | nonce 12 | ciphertext | tag 16
//!
//! key  HKDF-SHA-256 (RFC 5869): salt = label, input = the token, info = the provider's fingerprint
//! seal AES-256-GCM; authenticated with it: version | type | the provider's fingerprint
//!
//! plaintext, all numbers little-endian:
//!     stored 8 | fresh 8 | stale 8                                                  of an inactive verdict
//!     stored 8 | fresh 8 | stale 8 | exp 8 | claims 4 | length 4 | bound 1 | JWT | extra_claims     of an active one
//! ```
//!
//! `stored` is in seconds since the epoch, `fresh` and `stale` are in milliseconds. `claims` is the size of the claims
//! in memory once they are parsed. `extra_claims` are the members of the introspection response that the JWT does not
//! have (often none). `bound` is 1 if the token has a `cnf`, else 0. A nonce is random; two seals under one key and one
//! nonce would take some 2^48 entries for one and the same token.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::{hmac, rand};
use zeroize::Zeroize;

use crate::token::{Fingerprint, Token};
use crate::verdict::Unread;
use crate::{Active, Verdict, jwt};

/// The version of the format: an entry of another version is not opened.
const VERSION: u8 = 2;
const ACTIVE: u8 = 1;
const INACTIVE: u8 = 2;

/// The offset of the sealed part.
const HEADER: usize = 2 + NONCE_LEN;
const TAG: usize = 16;

/// The value of `exp` in the plaintext for a token without `exp`.
const NO_EXP: i64 = i64::MAX;

/// The label that separates these keys from other keys derived from a token.
const LABEL: &[u8] = b"phantom-token sealed entry 1";

/// HMAC with the label as its key. The label is the same for all tokens, so its part of the computation is done once.
static EXTRACT: LazyLock<hmac::Key> = LazyLock::new(|| hmac::Key::new(hmac::HMAC_SHA256, LABEL));

/// The plaintext of a stored verdict.
pub(crate) struct Entry {
    /// The verdict.
    pub verdict: Verdict,
    /// The time when it was stored, in seconds since the epoch: it detects a store that returns an old entry.
    pub stored: i64,
    /// The time for which it is fresh, from when it was stored.
    pub fresh: Duration,
    /// The time for which it is kept after that, to be served when the authorization server can't be asked.
    pub stale: Duration,
}

/// Seals an entry for `token`. If the system has no random bytes to give, the result is empty, and [`open`] treats it
/// as no entry.
pub(crate) fn seal(provider: &Fingerprint, token: Token<'_>, entry: &Entry) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(HEADER + encoded_length(entry) + TAG);
    if seal_into(provider, token, entry, &mut sealed).is_err() {
        sealed.zeroize();
    }
    sealed
}

fn seal_into(
    provider: &Fingerprint,
    token: Token<'_>,
    entry: &Entry,
    sealed: &mut Vec<u8>,
) -> Result<(), Unspecified> {
    let kind = match entry.verdict {
        Verdict::Active(_) => ACTIVE,
        Verdict::Inactive => INACTIVE,
    };
    let mut nonce = [0; NONCE_LEN];
    rand::fill(&mut nonce)?;
    sealed.extend_from_slice(&[VERSION, kind]);
    sealed.extend_from_slice(&nonce);
    encode(entry, sealed);
    let tag = key(provider, token)?.seal_in_place_separate_tag(
        Nonce::assume_unique_for_key(nonce),
        Aad::from(associated(provider, kind)),
        // The buffer is longer than the header.
        &mut sealed[HEADER..],
    )?;
    sealed.extend_from_slice(tag.as_ref());
    Ok(())
}

/// Opens the output of [`seal`] in place, and wipes it. `None` for bytes that were not sealed for this provider and
/// this token.
pub(crate) fn open(provider: &Fingerprint, token: Token<'_>, sealed: &mut [u8]) -> Option<Entry> {
    let entry = open_in_place(provider, token, sealed);
    sealed.zeroize();
    entry
}

fn open_in_place(provider: &Fingerprint, token: Token<'_>, sealed: &mut [u8]) -> Option<Entry> {
    let (&mut [version, kind], rest) = sealed.split_first_chunk_mut()?;
    let (&mut nonce, ciphertext) = rest.split_first_chunk_mut::<NONCE_LEN>()?;
    if version != VERSION {
        return None;
    }
    let plaintext = key(provider, token)
        .ok()?
        .open_in_place(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(associated(provider, kind)),
            ciphertext,
        )
        .ok()?;
    decode(kind, plaintext)
}

fn key(provider: &Fingerprint, token: Token<'_>) -> Result<LessSafeKey, Unspecified> {
    let derived = derive(provider, token);
    UnboundKey::new(&AES_256_GCM, derived.as_ref()).map(LessSafeKey::new)
}

/// HKDF-SHA-256 (RFC 5869 §2) of as many bytes as one HMAC has. The library's own function processes the label again
/// for each token, and copies its input to the heap: a fifth of the cost of opening an entry.
fn derive(provider: &Fingerprint, token: Token<'_>) -> hmac::Tag {
    let extracted = hmac::sign(&EXTRACT, token.expose().as_bytes());
    // The information, and the number of the block.
    let mut info = [1; 33];
    info[..32].copy_from_slice(provider.as_bytes());
    hmac::sign(
        &hmac::Key::new(hmac::HMAC_SHA256, extracted.as_ref()),
        &info,
    )
}

fn associated(provider: &Fingerprint, kind: u8) -> [u8; 34] {
    let mut associated = [0; 34];
    associated[0] = VERSION;
    associated[1] = kind;
    associated[2..].copy_from_slice(provider.as_bytes());
    associated
}

fn encoded_length(entry: &Entry) -> usize {
    24 + match &entry.verdict {
        Verdict::Active(active) => {
            17 + active.jwt_after_sender_check().len() + active.extra_claims().len()
        }
        Verdict::Inactive => 0,
    }
}

/// Appends an entry's plaintext: [`encoded_length`] bytes.
fn encode(entry: &Entry, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&entry.stored.to_le_bytes());
    for span in [entry.fresh, entry.stale] {
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        bytes.extend_from_slice(&millis.to_le_bytes());
    }
    if let Verdict::Active(active) = &entry.verdict {
        bytes.extend_from_slice(&active.exp().unwrap_or(NO_EXP).to_le_bytes());
        // A JWT has at most 64 KiB, and the size of an answer is bounded too.
        for size in [active.claims_size(), active.jwt_after_sender_check().len()] {
            let size = u32::try_from(size).unwrap_or(u32::MAX);
            bytes.extend_from_slice(&size.to_le_bytes());
        }
        bytes.push(active.is_bound().into());
        bytes.extend_from_slice(active.jwt_after_sender_check().as_bytes());
        bytes.extend_from_slice(active.extra_claims().as_bytes());
    }
}

/// Decodes the output of [`encode`] for an entry of this kind, and nothing else.
fn decode(kind: u8, bytes: &[u8]) -> Option<Entry> {
    let (stored, bytes) = bytes.split_first_chunk()?;
    let (fresh, bytes) = bytes.split_first_chunk()?;
    let (stale, bytes) = bytes.split_first_chunk()?;
    let verdict = match kind {
        ACTIVE => {
            let (exp, bytes) = bytes.split_first_chunk()?;
            let (claims_size, bytes) = bytes.split_first_chunk()?;
            let (length, bytes) = bytes.split_first_chunk()?;
            let (&bound, bytes) = bytes.split_first()?;
            let [claims_size, length] = [claims_size, length]
                .map(|size| usize::try_from(u32::from_le_bytes(*size)).unwrap_or(usize::MAX));
            let (jwt, extra_claims) = bytes.split_at_checked(length)?;
            let jwt = jwt::recheck_compact(jwt)?;
            let extra_claims = std::str::from_utf8(extra_claims).ok()?;
            let exp = Some(i64::from_le_bytes(*exp)).filter(|&exp| exp != NO_EXP);
            let unread = Unread {
                exp,
                // Any other value counts as bound: a sender that must prove a key must not get access without it.
                bound: bound != 0,
                claims_size,
            };
            let active = Active::unread(&jwt, extra_claims.into(), unread);
            Verdict::Active(Arc::new(active))
        }
        INACTIVE if bytes.is_empty() => Verdict::Inactive,
        _ => return None,
    };
    let [fresh, stale] =
        [fresh, stale].map(|millis| Duration::from_millis(u64::from_le_bytes(*millis)));
    Some(Entry {
        verdict,
        stored: i64::from_le_bytes(*stored),
        fresh,
        stale,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::jwt::{check_compact, reread, test_jwt};

    const SECRET: &str = "SECRETSUBJECT";

    fn provider() -> Fingerprint {
        Fingerprint([7; 32])
    }

    fn token(text: &str) -> Token<'_> {
        Token::parse(text.as_bytes()).unwrap()
    }

    fn active(payload: &str, extra_claims: &str) -> Verdict {
        let jwt = test_jwt(payload);
        let claims = reread(&jwt, extra_claims).unwrap();
        let compact = check_compact(jwt.as_bytes()).unwrap();
        Verdict::Active(Arc::new(Active::with_response(
            &compact,
            extra_claims.into(),
            claims,
        )))
    }

    fn entry(verdict: Verdict) -> Entry {
        Entry {
            verdict,
            stored: 1_700_000_000,
            fresh: Duration::from_millis(59_999),
            stale: Duration::from_secs(3600),
        }
    }

    fn some_active() -> Entry {
        let payload = format!(r#"{{"sub":"{SECRET}","scope":"a b","exp":1700000300}}"#);
        entry(active(&payload, r#"{"scope":"a"}"#))
    }

    fn both() -> [Entry; 2] {
        [some_active(), entry(Verdict::Inactive)]
    }

    /// All fields of an entry, to be compared.
    fn said(entry: &Entry) -> String {
        let verdict = match &entry.verdict {
            Verdict::Active(active) => {
                let claims = active.claims();
                format!(
                    "{} {:?} {} {:?} {} {} {:?}",
                    active.authorization_after_sender_check(),
                    active.exp(),
                    active.size(),
                    claims.exp,
                    claims.json(),
                    claims.scope,
                    claims.sub,
                )
            }
            Verdict::Inactive => "inactive".to_owned(),
        };
        format!(
            "{verdict} {} {:?} {:?}",
            entry.stored, entry.fresh, entry.stale
        )
    }

    #[test]
    fn what_is_sealed_opens_as_it_was_and_leaves_nothing_behind() {
        for entry in both() {
            let mut sealed = seal(&provider(), token("opaque"), &entry);
            let opened = open(&provider(), token("opaque"), &mut sealed).unwrap();
            assert_eq!(said(&opened), said(&entry));
            assert!(sealed.iter().all(|&byte| byte == 0), "it is wiped");
        }
    }

    #[test]
    fn a_sealed_entry_is_little_longer_than_its_jwt() {
        let sealed = |entry: &Entry| seal(&provider(), token("opaque"), entry).len();
        assert_eq!(sealed(&entry(Verdict::Inactive)), 54);
        let alone = entry(active(r#"{"sub":"a"}"#, ""));
        let Verdict::Active(active) = &alone.verdict else {
            unreachable!()
        };
        assert_eq!(sealed(&alone), active.jwt_after_sender_check().len() + 71);
    }

    #[test]
    fn neither_token_nor_jwt_nor_claims_are_to_be_seen() {
        let entry = some_active();
        let Verdict::Active(active) = &entry.verdict else {
            unreachable!()
        };
        let sealed = seal(&provider(), token("opaque-token"), &entry);
        for part in ["opaque", SECRET, "scope"]
            .into_iter()
            .chain(active.jwt_after_sender_check().split('.'))
        {
            let shown = sealed
                .windows(part.len())
                .any(|window| window == part.as_bytes());
            assert!(!shown, "{part}");
        }
    }

    #[test]
    fn no_two_seals_are_alike() {
        for entry in both() {
            let seal = || seal(&provider(), token("opaque"), &entry);
            assert_ne!(seal()[2..], seal()[2..]);
        }
    }

    #[test]
    fn another_token_another_provider_and_another_version_open_nothing() {
        for entry in both() {
            let sealed = || seal(&provider(), token("opaque"), &entry);
            assert!(open(&provider(), token("opaqua"), &mut sealed()).is_none());
            assert!(open(&provider(), token("opaque="), &mut sealed()).is_none());
            assert!(open(&Fingerprint([8; 32]), token("opaque"), &mut sealed()).is_none());
            let mut other = sealed();
            other[0] = VERSION + 1;
            assert!(open(&provider(), token("opaque"), &mut other).is_none());
            assert!(other.iter().all(|&byte| byte == 0), "it is wiped as well");
        }
    }

    #[test]
    fn a_bit_that_has_changed_and_a_byte_too_few_or_too_many_open_nothing() {
        for entry in both() {
            let sealed = seal(&provider(), token("opaque"), &entry);
            let refused =
                |mut bytes: Vec<u8>| open(&provider(), token("opaque"), &mut bytes).is_none();
            for at in 0..sealed.len() {
                for bit in 0..8 {
                    let mut changed = sealed.clone();
                    changed[at] ^= 1 << bit;
                    assert!(refused(changed), "bit {bit} of byte {at}");
                }
                assert!(refused(sealed[..at].to_vec()), "cut to {at}");
                assert!(refused(sealed[sealed.len() - at..].to_vec()));
            }
            assert!(refused([sealed.as_slice(), &[0]].concat()));
            assert!(refused([&[VERSION], sealed.as_slice()].concat()));
        }
    }

    #[test]
    fn no_byte_that_is_no_jwts_comes_out_of_an_authentic_entry() {
        let mut bytes = Vec::new();
        encode(&some_active(), &mut bytes);
        let dot = bytes.iter().position(|&byte| byte == b'.').unwrap();
        assert!(decode(ACTIVE, &bytes).is_some());
        for byte in *b"\r\n \0,\xff" {
            bytes[dot] = byte;
            assert!(decode(ACTIVE, &bytes).is_none());
        }
    }

    #[test]
    fn only_what_was_encoded_is_decoded() {
        for entry in both() {
            let (kind, other) = match entry.verdict {
                Verdict::Active(_) => (ACTIVE, INACTIVE),
                Verdict::Inactive => (INACTIVE, ACTIVE),
            };
            let mut bytes = Vec::new();
            encode(&entry, &mut bytes);
            assert_eq!(bytes.len(), encoded_length(&entry));
            assert_eq!(said(&decode(kind, &bytes).unwrap()), said(&entry));
            for kind in [other, 0, 3, u8::MAX] {
                assert!(decode(kind, &bytes).is_none());
            }
        }
    }

    #[test]
    fn a_time_that_has_no_end_comes_back_as_long_as_it_can_be_said() {
        let entry = Entry {
            verdict: Verdict::Inactive,
            stored: i64::MIN,
            fresh: Duration::MAX,
            stale: Duration::ZERO,
        };
        let mut sealed = seal(&provider(), token("opaque"), &entry);
        let opened = open(&provider(), token("opaque"), &mut sealed).unwrap();
        assert_eq!(opened.fresh, Duration::from_millis(u64::MAX));
        assert_eq!(opened.stale, Duration::ZERO);
    }

    /// The key as the library derives it.
    fn derived_by_the_library(provider: &Fingerprint, token: Token<'_>) -> [u8; 32] {
        use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};

        let mut derived = [0; 32];
        Salt::new(HKDF_SHA256, LABEL)
            .extract(token.expose().as_bytes())
            .expand(&[provider.as_bytes()], HKDF_SHA256)
            .unwrap()
            .fill(&mut derived)
            .unwrap();
        derived
    }

    proptest! {
        #[test]
        fn a_key_is_what_hkdf_makes_of_the_token(
            provider in any::<[u8; 32]>(), text in "[A-Za-z0-9._~+/-]{1,200}={0,2}",
        ) {
            let (provider, token) = (Fingerprint(provider), token(&text));
            let derived = derive(&provider, token);
            prop_assert_eq!(derived.as_ref(), derived_by_the_library(&provider, token));
        }

        #[test]
        fn no_bytes_make_it_panic_and_what_opens_can_stand_in_a_header(
            bytes in prop::collection::vec(any::<u8>(), 0..120), kind in 0..4u8, length in 0..60u32,
        ) {
            let mut sealed = bytes.clone();
            prop_assert!(open(&provider(), token("opaque"), &mut sealed).is_none());
            // With a plausible length: otherwise nearly all inputs are rejected there.
            let mut likely = bytes.clone();
            if let Some(field) = likely.get_mut(28..32) {
                field.copy_from_slice(&length.to_le_bytes());
            }
            for bytes in [bytes, likely] {
                if let Some(entry) = decode(kind, &bytes)
                    && let Verdict::Active(active) = entry.verdict
                {
                    prop_assert!(http::HeaderValue::from_str(active.authorization_after_sender_check()).is_ok());
                    active.claims();
                }
            }
        }

        #[test]
        fn every_entry_comes_back_as_it_was(
            sub in "\\PC{0,40}", exp in any::<Option<i64>>(), extra_claims in any::<Option<String>>(),
            fresh in any::<u64>(), stale in any::<u64>(), token_text in "[A-Za-z0-9._~+/-]{1,100}={0,2}",
        ) {
            let payload = serde_json::json!({"sub": sub, "exp": exp}).to_string();
            let extra_claims = extra_claims.map_or(String::new(), |name| serde_json::json!({"x": name}).to_string());
            let entry = Entry {
                verdict: active(&payload, &extra_claims),
                stored: 0,
                fresh: Duration::from_millis(fresh),
                stale: Duration::from_millis(stale),
            };
            let token = token(&token_text);
            let mut sealed = seal(&provider(), token, &entry);
            let opened = open(&provider(), token, &mut sealed).unwrap();
            prop_assert_eq!(said(&opened), said(&entry));
        }
    }
}
