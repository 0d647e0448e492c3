//! Calls that the host makes. A host with its own way to the authorization server, with its own connections, TLS and
//! credentials, receives each call and returns the answer. Everything else is the same: the cache, the flights, and the
//! reading of answers.
//!
//! A host may have to make the call on behalf of a waiting request, as nginx does: then the call ends when that request
//! ends. This must not affect the other requests that wait for the same token, so the call is passed to the host again,
//! on behalf of another of them. If there is none left, no call is made.

use std::fmt;
use std::sync::Arc;

use http::header::ACCEPT;
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::transport::{self, Blame, Failure};
use crate::oauth::Endpoint;
use crate::oauth::Request;
use crate::{Error, ErrorKind, Provider};

/// Receives a call, and ensures that it is made. Called on the client's thread: it must not block.
pub type CallSink = Arc<dyn Fn(Call) + Send + Sync>;

/// A call to make: an HTTP `POST` of a form (RFC 7662 §2.1). One that is dropped without an answer has ended with the
/// request on whose behalf it was made ([`CallFailure::Gone`]).
pub struct Call {
    tag: Option<u64>,
    accept: Option<HeaderValue>,
    body: Zeroizing<Vec<u8>>,
    limit: usize,
    reply: oneshot::Sender<Result<Answer, CallFailure>>,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The body contains the token, and may contain a secret.
        f.debug_struct("Call")
            .field("tag", &self.tag)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

impl Call {
    /// The `Content-Type` of the body.
    pub const CONTENT_TYPE: &'static str = "application/x-www-form-urlencoded";

    /// The tag of a request that waits for the answer, as passed to [`crate::Client::submit`]. `None` when no waiting
    /// request has a tag.
    pub fn tag(&self) -> Option<u64> {
        self.tag
    }

    /// The value of `Accept` to send.
    pub fn accept(&self) -> &[u8] {
        self.accept.as_ref().map_or(b"*/*", HeaderValue::as_bytes)
    }

    /// The body to send. It holds the token.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Whether a header of the request on whose behalf the call is made may be sent with it. Allowed are only headers
    /// that identify the host and the program of the client's request, and tracing headers. Any other may authenticate
    /// the client, change what the authorization server does (`X-HTTP-Method-Override`, `X-Forwarded-For`), or be wrong
    /// for the call. `name` is in lower case.
    pub fn may_carry(name: &[u8]) -> bool {
        const NAMES: [&[u8]; 13] = [
            b"b3",
            b"baggage",
            b"host",
            b"traceparent",
            b"tracestate",
            b"user-agent",
            b"x-b3-flags",
            b"x-b3-parentspanid",
            b"x-b3-sampled",
            b"x-b3-spanid",
            b"x-b3-traceid",
            b"x-correlation-id",
            b"x-request-id",
        ];
        NAMES.contains(&name)
    }

    /// Whether any request still waits for the answer.
    pub fn is_wanted(&self) -> bool {
        !self.reply.is_closed()
    }

    /// Creates an answer to this call, to be filled in as it arrives. `status` is that of HTTP.
    pub fn begin(&self, status: u16) -> Answer {
        Answer {
            status,
            headers: HeaderMap::new(),
            body: Zeroizing::default(),
            limit: self.limit,
        }
    }

    /// Delivers the answer, or the reason why there is none. May be called on any thread; never blocks.
    pub fn answer(self, outcome: Result<Answer, CallFailure>) {
        // The receiver may have given up.
        let _ = self.reply.send(outcome);
    }
}

/// The HTTP response of a call that the host made.
pub struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Zeroizing<Vec<u8>>,
    limit: usize,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Headers and body are the server's: the body has the JWT.
        f.debug_struct("Answer")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

impl Answer {
    /// Adds a header. Only headers that describe the body and its cache lifetime are kept ([`Answer::matters`]). Bytes
    /// that are not a valid header are ignored.
    pub fn header(&mut self, name: &[u8], value: &[u8]) {
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value))
        {
            self.headers.append(name, value);
        }
    }

    /// Whether a header of this name is used.
    pub fn matters(name: &[u8]) -> bool {
        const NAMES: [&str; 4] = [
            "cache-control",
            "content-encoding",
            "content-type",
            "retry-after",
        ];
        NAMES
            .iter()
            .any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
    }

    /// The number of bytes of the body that have arrived.
    pub fn len(&self) -> usize {
        self.body.len()
    }

    /// Whether none has.
    pub fn is_empty(&self) -> bool {
        self.body.is_empty()
    }

    /// Whether the body stays within `max_response_size` with this many bytes more.
    pub fn has_room_for(&self, length: usize) -> bool {
        self.limit
            .checked_sub(self.body.len())
            .is_some_and(|room| length <= room)
    }

    /// Adds a piece of the body. Returns whether it still is within `max_response_size`; if not, the call has failed
    /// ([`CallFailure::TooLarge`]).
    #[must_use]
    pub fn push(&mut self, piece: &[u8]) -> bool {
        /// The initial capacity: few answers are larger.
        const USUAL: usize = 16 << 10;
        if !self.has_room_for(piece.len()) {
            return false;
        }
        let needed = self.body.len() + piece.len();
        if needed > self.body.capacity() {
            // A buffer that grows by itself leaves a copy behind; this one is wiped as it is replaced.
            let capacity = needed
                .max(2 * self.body.capacity())
                .max(USUAL.min(self.limit));
            let mut body = Zeroizing::new(Vec::with_capacity(capacity.min(self.limit)));
            body.extend_from_slice(&self.body);
            self.body = body;
        }
        self.body.extend_from_slice(piece);
        true
    }
}

/// Why a call has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallFailure {
    /// The request on whose behalf it was made has ended. It may be made on behalf of another.
    Gone,
    /// The answer is larger than `max_response_size`.
    TooLarge,
    /// The answer ended before it was whole.
    CutOff,
    /// It could not be made, or there was no answer at all.
    Failed,
}

/// A call, and where its answer will be.
pub(super) fn call(
    provider: &Provider,
    request: &Request,
    tag: Option<u64>,
) -> (Call, oneshot::Receiver<Result<Answer, CallFailure>>) {
    let (reply, answer) = oneshot::channel();
    let accept = request.headers.iter().find(|(name, _)| name == ACCEPT);
    let call = Call {
        tag,
        accept: accept.map(|(_, value)| value.clone()),
        body: request.body.clone(),
        limit: provider.max_response_size,
        reply,
    };
    (call, answer)
}

/// Converts an outcome into the form that the reader of answers takes.
pub(super) fn response(
    provider: &Provider,
    endpoint: &Endpoint,
    outcome: Result<Answer, CallFailure>,
) -> Result<transport::Response, Failure> {
    let failure = match outcome {
        Ok(answer) => {
            return Ok(transport::Response {
                status: answer.status,
                headers: answer.headers,
                body: answer.body,
            });
        }
        Err(failure) => failure,
    };
    let unreachable = |what: &str| {
        let place = provider.place(endpoint);
        Error::new(ErrorKind::Unreachable, format!("{place}: {what}"))
    };
    let error = match failure {
        CallFailure::TooLarge => transport::too_large(provider, endpoint),
        CallFailure::CutOff => unreachable(
            "the answer ended before it was whole; the lines before this one may say why",
        ),
        CallFailure::Failed => {
            unreachable("the call could not be made; the lines before this one may say why")
        }
        CallFailure::Gone => unreachable(
            "the call ended with the request on whose behalf it was made, each time anew, and those who still wait have \
             no answer",
        ),
    };
    // The host has its own ways to retry. Of a call that failed there, it is unknown whether the token or another part
    // of the request is the cause.
    Err(Failure {
        error,
        again: false,
        blame: match failure {
            CallFailure::Gone => Blame::Nobody,
            CallFailure::TooLarge | CallFailure::CutOff | CallFailure::Failed => Blame::Token,
        },
    })
}

/// The error of a client that was started without the call sink that its provider needs.
pub(super) fn no_host(provider: &Provider) -> Failure {
    Failure {
        error: Error::new(
            ErrorKind::Internal,
            format!(
                "provider {:?}: its calls are the host's to make, and the client was started without one",
                provider.name
            ),
        ),
        again: false,
        blame: Blame::Server,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(limit: usize) -> Answer {
        Answer {
            status: 200,
            headers: HeaderMap::new(),
            body: Zeroizing::default(),
            limit,
        }
    }

    #[test]
    fn an_answer_comes_in_pieces_and_is_bounded_as_a_whole() {
        let mut answer = answer(70_000);
        for _ in 0..70_000 {
            assert!(answer.push(b"a"));
        }
        assert_eq!(answer.len(), 70_000);
        assert!(!answer.push(b"a"));
        assert_eq!(answer.len(), 70_000, "what is too much is not kept");
        assert!(answer.push(b""));
    }

    #[test]
    fn only_headers_of_the_list_go_along() {
        for name in [
            "forwarded",
            "proxy",
            "via",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-http-method-override",
            "x-real-ip",
            "x-request-ids",
            "x_request_id",
            "authorization",
            "dpop",
            "cookie",
            "content-length",
            "content-type",
            "content-encoding",
            "transfer-encoding",
            "accept",
            "accept-encoding",
            "if-none-match",
            "if-range",
            "range",
            "expect",
            "upgrade",
            "connection",
            "te",
            "cache-control",
        ] {
            assert!(!Call::may_carry(name.as_bytes()), "{name}");
        }
        for name in ["host", "user-agent", "x-request-id", "traceparent"] {
            assert!(Call::may_carry(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn what_can_be_no_header_is_left_out() {
        let mut answer = answer(0);
        answer.header(b"Cache-Control", b"max-age=5");
        answer.header(b"Cache Control", b"max-age=6");
        answer.header(b"Cache-Control", b"a\r\nb");
        assert_eq!(answer.headers.len(), 1);
        assert!(Answer::matters(b"Retry-After"));
        assert!(!Answer::matters(b"Set-Cookie"));
    }
}
