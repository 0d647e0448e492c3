//! Nonces of the server (RFC 9449 §9): they show that a proof is recent, whatever the client's clock.
//!
//! Nonces are not stored. A nonce is an HMAC of the time interval in which it was issued. So every process with the
//! same secret accepts it: all workers of a host that creates the secret before it starts them.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::{constant_time, hmac, rand};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The length to which the HMAC is truncated, in bytes. It can't be guessed.
const LENGTH: usize = 16;

/// Issues nonces, and verifies them.
pub struct Nonces {
    key: hmac::Key,
    /// The interval in seconds: at least 1.
    step: u64,
}

impl Nonces {
    /// Nonces from a secret. A new nonce is issued in every `step`. Each is accepted during its own step and the next
    /// one.
    pub fn new(secret: &[u8; 32], step: Duration) -> Self {
        Nonces {
            key: hmac::Key::new(hmac::HMAC_SHA256, secret),
            step: step.as_secs().max(1),
        }
    }

    /// Nonces from a new random secret.
    ///
    /// # Errors
    /// When the system has no random bytes: a message that says so.
    pub fn random(step: Duration) -> Result<Self, &'static str> {
        let mut secret = zeroize::Zeroizing::new([0; 32]);
        rand::fill(&mut *secret).map_err(|_| "no random numbers can be had")?;
        Ok(Self::new(&secret, step))
    }

    /// The nonce to issue at `now`, in seconds since the epoch: 22 characters of base64url.
    pub fn current(&self, now: i64) -> String {
        URL_SAFE_NO_PAD.encode(self.of(self.number(now)))
    }

    /// Whether a proof with this nonce is accepted at `now`.
    pub fn accepts(&self, nonce: &[u8], now: i64) -> bool {
        let number = self.number(now);
        self.is_of(nonce, number) || self.is_of(nonce, number.wrapping_sub(1))
    }

    /// Whether the nonce is the current one at `now`, and not the previous one.
    pub(super) fn is_current(&self, nonce: &[u8], now: i64) -> bool {
        self.is_of(nonce, self.number(now))
    }

    /// The number of the step that `now` is in.
    fn number(&self, now: i64) -> u64 {
        u64::try_from(now).unwrap_or(0) / self.step
    }

    fn of(&self, number: u64) -> [u8; LENGTH] {
        let tag = hmac::sign(&self.key, &number.to_be_bytes());
        let mut nonce = [0; LENGTH];
        nonce.copy_from_slice(&tag.as_ref()[..LENGTH]);
        nonce
    }

    fn is_of(&self, nonce: &[u8], number: u64) -> bool {
        let mut text = [0; LENGTH.div_ceil(3) * 4];
        let encoded = URL_SAFE_NO_PAD.encode_slice(self.of(number), &mut text);
        encoded.is_ok_and(|length| {
            constant_time::verify_slices_are_equal(nonce, &text[..length]).is_ok()
        })
    }
}

impl fmt::Debug for Nonces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nonces")
            .field("step", &self.step)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_secs(300);
    const START: i64 = 300 * 5_666_666;

    #[test]
    fn a_nonce_is_accepted_in_its_own_step_and_in_the_next() {
        let nonces = Nonces::new(&[1; 32], STEP);
        let nonce = nonces.current(START);
        for (later, current, accepted) in [
            (-1, false, false),
            (0, true, true),
            (299, true, true),
            (300, false, true),
            (599, false, true),
            (600, false, false),
            (100_000, false, false),
        ] {
            let now = START + later;
            assert_eq!(nonces.accepts(nonce.as_bytes(), now), accepted, "{later}");
            assert_eq!(nonces.is_current(nonce.as_bytes(), now), current, "{later}");
        }
    }

    #[test]
    fn who_has_the_same_secret_accepts_it_and_nobody_else() {
        let nonce = Nonces::new(&[1; 32], STEP).current(START);
        assert!(Nonces::new(&[1; 32], STEP).accepts(nonce.as_bytes(), START));
        assert!(!Nonces::new(&[2; 32], STEP).accepts(nonce.as_bytes(), START));
        let random = [(); 2].map(|()| Nonces::random(STEP).unwrap().current(START));
        assert_ne!(random[0], random[1]);
    }

    #[test]
    fn what_is_not_quite_a_nonce_is_none() {
        let nonces = Nonces::new(&[1; 32], STEP);
        let nonce = nonces.current(START);
        assert_eq!(nonce.len(), 22);
        assert!(
            nonce
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        );
        for other in [
            String::new(),
            format!("{nonce}="),
            format!(" {nonce}"),
            nonce[1..].to_owned(),
            nonce.to_lowercase(),
            format!("{nonce}{nonce}"),
        ] {
            assert!(!nonces.accepts(other.as_bytes(), START), "{other}");
        }
    }

    #[test]
    fn no_time_makes_it_panic() {
        let nonces = Nonces::new(&[1; 32], Duration::ZERO);
        for now in [i64::MIN, -1, 0, 1, i64::MAX] {
            assert!(nonces.accepts(nonces.current(now).as_bytes(), now));
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let nonces = Nonces::new(&[1; 32], STEP);
        assert_eq!(format!("{nonces:?}"), "Nonces { step: 300, .. }");
    }
}
