//! Why a token could not be resolved: the one error type of the path from token to verdict.
//!
//! An error is never a verdict: it says nothing about the token, is not remembered, and never lets a request
//! through. Its kind decides the HTTP status and whether trying again helps; its message is for the operator's
//! log and carries neither token, JWT nor credentials.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What went wrong, as far as a caller can act on it. Numbers are those of the C ABI and never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
}

impl ErrorKind {
    /// Every kind, in the order in which [`crate::Stats`] counts them.
    pub const ALL: [ErrorKind; 9] = [
        ErrorKind::Unreachable,
        ErrorKind::BadAnswer,
        ErrorKind::ClientRefused,
        ErrorKind::Busy,
        ErrorKind::Overloaded,
        ErrorKind::Timeout,
        ErrorKind::Stopped,
        ErrorKind::Forked,
        ErrorKind::Internal,
    ];

    /// The kind's place in [`ErrorKind::ALL`].
    pub fn index(self) -> usize {
        match self {
            ErrorKind::Unreachable => 0,
            ErrorKind::BadAnswer => 1,
            ErrorKind::ClientRefused => 2,
            ErrorKind::Busy => 3,
            ErrorKind::Overloaded => 4,
            ErrorKind::Timeout => 5,
            ErrorKind::Stopped => 6,
            ErrorKind::Forked => 7,
            ErrorKind::Internal => 8,
        }
    }

    /// A name for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorKind::Unreachable => "unreachable",
            ErrorKind::BadAnswer => "bad_answer",
            ErrorKind::ClientRefused => "client_refused",
            ErrorKind::Busy => "busy",
            ErrorKind::Overloaded => "overloaded",
            ErrorKind::Timeout => "timeout",
            ErrorKind::Stopped => "stopped",
            ErrorKind::Forked => "forked",
            ErrorKind::Internal => "internal",
        }
    }

    /// The status a gateway answers with (RFC 9110 §15.6): 502 when the authorization server or its answer is
    /// at fault, 503 when trying again later helps, 504 when it was too slow.
    pub fn http_status(self) -> u16 {
        match self {
            ErrorKind::Unreachable
            | ErrorKind::BadAnswer
            | ErrorKind::ClientRefused
            | ErrorKind::Internal => 502,
            ErrorKind::Busy | ErrorKind::Overloaded | ErrorKind::Stopped | ErrorKind::Forked => 503,
            ErrorKind::Timeout => 504,
        }
    }
}

/// Why a token could not be resolved. Cheap to clone: all who wait for one flight share one message.
#[derive(Debug, Clone)]
pub struct Error {
    kind: ErrorKind,
    message: Arc<str>,
    retry_after: Option<Duration>,
}

impl Error {
    /// An error of `kind`; `message` says what happened and what to do, and holds no secret.
    pub fn new(kind: ErrorKind, message: impl Into<Arc<str>>) -> Self {
        Error {
            kind,
            message: message.into(),
            retry_after: None,
        }
    }

    /// The same with the time after which trying again may help (`Retry-After`, RFC 9110 §10.2.3).
    pub fn with_retry_after(mut self, after: Option<Duration>) -> Self {
        self.retry_after = after;
        self
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What happened and what to do about it, for a log.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// When trying again may help, if that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
