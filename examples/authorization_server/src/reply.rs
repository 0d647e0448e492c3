//! Responses of endpoints and the way to deliver them, independent of the HTTP version.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use serde_json::Value;

/// Fill is produced in pieces of this size.
const FILL_PIECE: usize = 16 * 1024;

/// A response, and the way to deliver it.
pub struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Body,
    pub delivery: Delivery,
}

impl Reply {
    /// A response without a body.
    pub fn empty(status: StatusCode) -> Self {
        Self {
            status,
            headers: HeaderMap::new(),
            body: Body::default(),
            delivery: Delivery::default(),
        }
    }

    /// A response with a body of the given type.
    pub fn new(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self::empty(status)
            .with(header::CONTENT_TYPE, HeaderValue::from_static(content_type))
            .with_body(Body {
                start: body.into(),
                ..Body::default()
            })
    }

    /// A JSON response.
    pub fn json(status: StatusCode, value: &Value) -> Self {
        Self::new(status, "application/json", value.to_string())
    }

    /// The same response with one header set.
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// The same response with this body.
    pub fn with_body(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    /// The same response, never to be cached.
    pub fn no_store(self) -> Self {
        self.with(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))
    }

    /// Whether a body may follow the headers (RFC 9110 §6.4.1), unless the reply insists.
    pub fn has_body(&self, method: &Method) -> bool {
        let forbidden = matches!(
            self.status,
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        );
        method != Method::HEAD && (!forbidden || self.delivery.body_after_204)
    }
}

/// A body: some bytes, then one byte over and over. The fill is never held in memory as a whole.
#[derive(Default)]
pub struct Body {
    pub start: Bytes,
    pub fill: u8,
    pub fill_length: u64,
}

impl Body {
    /// The length in bytes.
    pub fn length(&self) -> u64 {
        self.start.len() as u64 + self.fill_length
    }

    /// Pads with `fill` up to `length` bytes; a longer body stays as it is.
    pub fn padded(self, length: u64, fill: u8) -> Self {
        let fill_length = length.saturating_sub(self.start.len() as u64);
        Self {
            start: self.start,
            fill,
            fill_length,
        }
    }

    /// The first half of the body.
    pub fn halved(mut self) -> Self {
        let half = self.length() / 2;
        if half < self.start.len() as u64 {
            // `half` is smaller than a length in memory, so it fits.
            self.start.truncate(half as usize);
        }
        self.fill_length = half - self.start.len() as u64;
        self
    }

    /// The body in order: the start in pieces of at most `size` bytes, then the fill.
    pub fn pieces(self, size: usize) -> impl Iterator<Item = Bytes> + Send {
        let mut start = self.start;
        let mut left = self.fill_length;
        let piece = if left > 0 {
            Bytes::from(vec![self.fill; FILL_PIECE])
        } else {
            Bytes::new()
        };
        std::iter::from_fn(move || {
            if !start.is_empty() {
                return Some(start.split_to(size.clamp(1, start.len())));
            }
            let length = left.min(FILL_PIECE as u64);
            left -= length;
            (length > 0).then(|| piece.slice(..length as usize))
        })
    }

    /// The body packed with gzip.
    pub fn gzip(self) -> std::io::Result<Self> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        for piece in self.pieces(FILL_PIECE) {
            encoder.write_all(&piece)?;
        }
        Ok(Self {
            start: encoder.finish()?.into(),
            ..Self::default()
        })
    }
}

/// How a response is delivered. The default is: properly.
#[derive(Clone, Default)]
pub struct Delivery {
    /// Write at most this many bytes at a time, with a pause after each.
    pub split: Option<usize>,
    /// Send the body in several chunks without a declared length.
    pub chunked: bool,
    /// Send the body without a declared length, until the connection closes.
    pub no_length: bool,
    /// Close the connection early.
    pub close: Option<Close>,
    /// Send the body one byte at a time with this pause, and never finish it.
    pub drip: Option<Duration>,
    /// Never finish the headers.
    pub endless_headers: bool,
    /// Send the body although the status is 204.
    pub body_after_204: bool,
}

impl Delivery {
    /// Whether the response is to be delivered properly.
    pub fn is_plain(&self) -> bool {
        self.split.is_none()
            && !self.chunked
            && !self.no_length
            && self.close.is_none()
            && self.drip.is_none()
            && !self.endless_headers
    }
}

/// Where a connection is closed early.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// Before the first byte of the response.
    BeforeHeaders,
    /// Inside the headers.
    MidHeaders,
    /// Inside the body, whose whole length has been declared.
    MidBody,
}
