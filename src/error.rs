//! The error type of the path from token to verdict: the reason why a token could not be resolved.
//!
//! An error is never a verdict: it says nothing about the token, is not cached, and never lets a request through. Its
//! kind decides the HTTP status and whether a retry helps. Its message is for the operator's log and contains neither
//! token, JWT nor credentials.

use std::sync::Arc;
use std::time::Duration;

use strum::{IntoStaticStr, VariantArray};

/// The kind of an error, as far as a caller can act on it. Numbers are those of the C ABI and never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// No answer: name resolution, connection, TLS, or a connection lost before the answer was whole.
    Unreachable,
    /// An answer that cannot be used: not the protocol, not the dialect, too large, not a JWT.
    BadAnswer,
    /// The authorization server refuses *our* credentials (401, 403).
    ClientRefused,
    /// The authorization server says that it is busy (429, 503).
    Busy,
    /// Our own bounds are reached: too many calls or waiting requests.
    Overloaded,
    /// No answer within the deadline.
    Timeout,
    /// The client is stopping or has stopped.
    Stopped,
    /// The client was started in another process, of which this one is a fork.
    Forked,
    /// A defect of this library.
    Internal,
    /// The authorization server has failed so often that it is not asked for a while.
    CircuitOpen,
}

impl ErrorKind {
    /// Every kind, in the order in which [`crate::Stats`] counts them.
    pub const ALL: &'static [ErrorKind] = Self::VARIANTS;

    /// The kind's place in [`ErrorKind::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// A name for logs and metrics.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The status a gateway answers with (RFC 9110 §15.6): 502 when the authorization server or its answer is
    /// at fault, 503 when trying again later helps, 504 when it was too slow.
    pub fn http_status(self) -> u16 {
        match self {
            ErrorKind::Unreachable
            | ErrorKind::BadAnswer
            | ErrorKind::ClientRefused
            | ErrorKind::Internal => 502,
            ErrorKind::Busy
            | ErrorKind::Overloaded
            | ErrorKind::Stopped
            | ErrorKind::Forked
            | ErrorKind::CircuitOpen => 503,
            ErrorKind::Timeout => 504,
        }
    }
}

/// The reason why a token could not be resolved. Cheap to clone: all requests that wait for one flight share one
/// message.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: Arc<str>,
    retry_after: Option<Duration>,
    /// The answer itself says that the authorization server has failed (5xx).
    server_failed: bool,
    /// The answer needs a key that is not known here.
    unknown_key: bool,
}

impl Error {
    /// Creates an error of `kind`; `message` says what happened and what to do, and contains no secret.
    pub fn new(kind: ErrorKind, message: impl Into<Arc<str>>) -> Self {
        Error {
            kind,
            message: message.into(),
            retry_after: None,
            server_failed: false,
            unknown_key: false,
        }
    }

    /// Sets the time after which a retry may help (`Retry-After`, RFC 9110 §10.2.3).
    pub fn with_retry_after(mut self, after: Option<Duration>) -> Self {
        self.retry_after = after;
        self
    }

    /// Marks the error as an answer by which the authorization server reports its own failure.
    pub(crate) fn with_server_failed(mut self) -> Self {
        self.server_failed = true;
        self
    }

    /// Marks the error as an answer that is signed with an unknown key.
    pub(crate) fn with_unknown_key(mut self) -> Self {
        self.unknown_key = true;
        self
    }

    /// Whether reading the same answer with newer keys of the authorization server may help.
    pub(crate) fn is_unknown_key(&self) -> bool {
        self.unknown_key
    }

    /// Whether this is a failure of the authorization server or of the path to it, so that another of its addresses, or
    /// the same address a little later, may succeed.
    pub(crate) fn is_outage(&self) -> bool {
        self.server_failed
            || matches!(
                self.kind,
                ErrorKind::Unreachable
                    | ErrorKind::Timeout
                    | ErrorKind::Busy
                    | ErrorKind::CircuitOpen
            )
    }

    /// Whether this means that the authorization server could not be asked: a stale verdict may be used then, if
    /// `stale_if_error` allows it. An answer that can't be used is an answer.
    pub(crate) fn is_no_answer(&self) -> bool {
        self.is_outage() || self.kind == ErrorKind::Overloaded
    }

    /// Encodes the error in a form that can be shared with other processes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        /// The maximum length of a message that a store keeps: enough for a line of a log.
        const MOST: usize = 480;
        let end = (0..=MOST.min(self.message.len()))
            .rev()
            .find(|&end| self.message.is_char_boundary(end))
            .unwrap_or(0);
        let after = self.retry_after.map_or(u32::MAX, |after| {
            u32::try_from(after.as_secs()).unwrap_or(u32::MAX - 1)
        });
        let mut bytes = vec![self.kind.index() as u8, u8::from(self.server_failed)];
        bytes.extend_from_slice(&after.to_le_bytes());
        bytes.extend_from_slice(&self.message.as_bytes()[..end]);
        bytes
    }

    /// Decodes the output of [`Error::to_bytes`]; `None` for anything else.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&[kind, server_failed, ref after @ ..], message) = bytes.split_first_chunk::<6>()?;
        let after = u32::from_le_bytes(*after);
        // It comes from memory that others write to: it must not be able to forge a line of a log.
        let message: String = std::str::from_utf8(message)
            .ok()?
            .chars()
            .map(|char| if char.is_control() { '?' } else { char })
            .collect();
        Some(Error {
            kind: *ErrorKind::ALL.get(usize::from(kind))?,
            message: message.into(),
            retry_after: (after != u32::MAX).then(|| Duration::from_secs(after.into())),
            server_failed: server_failed != 0,
            unknown_key: false,
        })
    }

    /// The kind of this error.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The cause and the remedy, for a log.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The message, shared.
    pub(crate) fn shared_message(&self) -> Arc<str> {
        Arc::clone(&self.message)
    }

    /// The time after which a retry may help, if it is known.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_shared_with_all_that_matters_of_it() {
        let error = Error::new(ErrorKind::Busy, "provider \"main\": busy")
            .with_retry_after(Some(Duration::from_secs(7)));
        let read = Error::from_bytes(&error.to_bytes()).unwrap();
        assert_eq!(read.kind(), ErrorKind::Busy);
        assert_eq!(read.message(), error.message());
        assert_eq!(read.retry_after(), error.retry_after());
        assert!(!read.server_failed);

        let failed = Error::new(ErrorKind::BadAnswer, "é".repeat(1000)).with_server_failed();
        let read = Error::from_bytes(&failed.to_bytes()).unwrap();
        assert!(read.is_outage());
        assert_eq!(read.retry_after(), None);
        assert_eq!(read.message(), "é".repeat(240), "cut between characters");
    }

    #[test]
    fn what_is_not_an_error_is_none_and_no_line_of_a_log_can_be_forged() {
        assert!(Error::from_bytes(b"").is_none());
        assert!(Error::from_bytes(&[99, 0, 0, 0, 0, 0]).is_none());
        assert!(Error::from_bytes(&[0, 0, 0, 0, 0, 0, 0xff]).is_none());
        let forged = Error::from_bytes(b"\0\0\0\0\0\0a\nb\rc").unwrap();
        assert_eq!(forged.message(), "a?b?c");
    }
}
