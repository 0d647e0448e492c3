//! Error messages that are read whole or not at all.
//!
//! A message is longer than a word. Its writer may be writing it, or may have died while writing it, when another
//! process reads it. So each message has a sequence number, which is odd during a write and changes with every write. A
//! reader that finds an odd or changed number discards what it has read.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicU64, fence};

use super::time;
use crate::LastError;

const WORDS: usize = 25;
/// The most bytes of a message that are stored.
pub(super) const LONGEST: usize = WORDS * 8;
/// The end of a message that was cut.
const CUT: &str = "…";
/// The most attempts to read a message that is being written.
const ATTEMPTS: usize = 16;

/// The last error of a kind.
#[repr(C)]
pub(super) struct Slot {
    sequence: AtomicU64,
    /// In seconds since the epoch; 0 means no error.
    at: AtomicU64,
    length: AtomicU64,
    words: [AtomicU64; WORDS],
}

impl Slot {
    pub(super) fn write(&self, error: &LastError) {
        let text = error.message.as_bytes();
        let room = match text.len() {
            0..=LONGEST => text.len(),
            _ => LONGEST - CUT.len(),
        };
        let mut length = (0..=room)
            .rev()
            .find(|&end| error.message.is_char_boundary(end))
            .unwrap_or(0);
        let mut bytes = [0; LONGEST];
        bytes[..length].copy_from_slice(&text[..length]);
        if text.len() > LONGEST {
            bytes[length..length + CUT.len()].copy_from_slice(CUT.as_bytes());
            length += CUT.len();
        }

        // Odd, whatever the value was: the last writer may have died.
        let writing = self.sequence.load(Relaxed).wrapping_add(1) | 1;
        self.sequence.store(writing, Relaxed);
        // A reader that sees a word written below also sees the changed sequence number.
        fence(Release);
        self.at.store(u64::try_from(error.at).unwrap_or(0), Relaxed);
        self.length.store(length as u64, Relaxed);
        for (word, chunk) in self.words.iter().zip(bytes.as_chunks::<8>().0) {
            word.store(u64::from_le_bytes(*chunk), Relaxed);
        }
        self.sequence.store(writing.wrapping_add(1), Release);
    }

    /// The stored error; without its text when that can't be read whole.
    pub(super) fn read(&self) -> Option<LastError> {
        for _ in 0..ATTEMPTS {
            let before = self.sequence.load(Acquire);
            let at = self.at.load(Relaxed);
            if at == 0 && before.is_multiple_of(2) {
                return None;
            }
            let length = self.length.load(Relaxed);
            let mut bytes = [0; LONGEST];
            for (chunk, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(&self.words) {
                *chunk = word.load(Relaxed).to_le_bytes();
            }
            // No read above is ordered after this one.
            fence(Acquire);
            if before.is_multiple_of(2) && self.sequence.load(Relaxed) == before {
                let length = usize::try_from(length).map_or(LONGEST, |length| length.min(LONGEST));
                return Some(LastError {
                    at: time(at),
                    message: printable(&bytes[..length]),
                });
            }
            std::hint::spin_loop();
        }
        match self.at.load(Relaxed) {
            0 => None,
            at => Some(LastError {
                at: time(at),
                message: "".into(),
            }),
        }
    }

    /// Removes an incomplete message.
    pub(super) fn mend(&self) {
        if self.sequence.load(Relaxed) % 2 == 1 {
            let at = time(self.at.load(Relaxed));
            self.write(&LastError {
                at,
                message: "".into(),
            });
        }
    }

    pub(super) fn clear(&self) {
        if self.at.load(Relaxed) != 0 || self.sequence.load(Relaxed) % 2 == 1 {
            self.write(&LastError {
                at: 0,
                message: "".into(),
            });
        }
    }
}

/// The text is untrusted: no byte of it may end a line.
fn printable(bytes: &[u8]) -> Arc<str> {
    String::from_utf8_lossy(bytes)
        .chars()
        .map(|char| if char.is_control() { '?' } else { char })
        .collect::<String>()
        .into()
}
