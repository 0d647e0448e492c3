//! HTTP/1.1, written by hand where misbehaviour needs control over every byte.

use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TRANSFER_ENCODING};
use http::{HeaderMap, Method, Request, StatusCode, Version};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{LARGEST_BODY, SPLIT_PAUSE};
use crate::app::App;
use crate::reply::{Body, Close, Reply};

/// The largest request head that is read.
const LARGEST_HEAD: usize = 64 * 1024;

/// The most header fields that are read.
const MOST_HEADERS: usize = 128;

/// How long a connection stays open after a request was refused.
const LINGER: Duration = Duration::from_secs(2);

/// How many bytes of a body go into one chunk, so that even a small body comes in several.
const CHUNK: usize = 64;

/// Headers that never end do end after this many bytes.
const ENDLESS: usize = 50 << 20;

/// Serves a connection whose first bytes are in `buffer`, until the peer closes it or a reply must.
pub async fn serve<S>(mut stream: S, mut buffer: BytesMut, app: Arc<App>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        let Some(request) = read_request(&mut stream, &mut buffer).await? else {
            return Ok(());
        };
        let refused = request.is_err();
        let (reply, method, keep_alive) = match request {
            Ok(request) => {
                let keep_alive = wants_keep_alive(&request);
                let method = request.method().clone();
                (app.answer(request).await, method, keep_alive)
            }
            Err(status) => (
                Reply::json(status, &json!({ "error": "invalid_request" })),
                Method::GET,
                false,
            ),
        };
        if !write_reply(&mut stream, reply, &method, keep_alive).await? {
            if refused {
                linger(&mut stream).await;
            }
            return Ok(());
        }
    }
}

/// Reads on for a while: closing a socket with unread bytes resets the connection, and the peer might never see
/// the reply.
async fn linger<S: AsyncRead + Unpin>(stream: &mut S) {
    let mut sink = tokio::io::sink();
    let _ = tokio::time::timeout(LINGER, tokio::io::copy(stream, &mut sink)).await;
}

/// The next request, or the status to refuse it with; `None` if the peer closed the connection.
async fn read_request<S>(
    stream: &mut S,
    buffer: &mut BytesMut,
) -> io::Result<Option<Result<Request<Bytes>, StatusCode>>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (head, head_length) = loop {
        match parse_head(buffer) {
            Ok(Some(parsed)) => break parsed,
            Ok(None) if buffer.len() > LARGEST_HEAD => {
                return Ok(Some(Err(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)));
            }
            Ok(None) => {}
            Err(status) => return Ok(Some(Err(status))),
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    buffer.advance(head_length);

    if head.headers().contains_key(TRANSFER_ENCODING) {
        return Ok(Some(Err(StatusCode::LENGTH_REQUIRED)));
    }
    let length = match body_length(head.headers()) {
        Some(length) if length <= LARGEST_BODY => length,
        Some(_) => return Ok(Some(Err(StatusCode::PAYLOAD_TOO_LARGE))),
        None => return Ok(Some(Err(StatusCode::BAD_REQUEST))),
    };
    if buffer.len() < length && head.headers().contains_key(EXPECT) {
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        stream.flush().await?;
    }
    while buffer.len() < length {
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
    let body = buffer.split_to(length).freeze();
    Ok(Some(Ok(head.map(|()| body))))
}

/// The head of a request and its length in bytes, once all of it is there.
fn parse_head(bytes: &[u8]) -> Result<Option<(Request<()>, usize)>, StatusCode> {
    let mut fields = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut parsed = httparse::Request::new(&mut fields);
    let length = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
        }
        Err(_) => return Err(StatusCode::BAD_REQUEST),
    };
    let version = if parsed.version == Some(0) {
        Version::HTTP_10
    } else {
        Version::HTTP_11
    };
    let mut builder = Request::builder()
        .method(parsed.method.unwrap_or_default())
        .uri(parsed.path.unwrap_or_default())
        .version(version);
    for field in parsed.headers.iter() {
        builder = builder.header(field.name, field.value);
    }
    builder
        .body(())
        .map(|head| Some((head, length)))
        .map_err(|_| StatusCode::BAD_REQUEST)
}

/// The declared length of the body; `None` if it is malformed or declared twice.
fn body_length(headers: &HeaderMap) -> Option<usize> {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let Some(value) = values.next() else {
        return Some(0);
    };
    let digits = value
        .to_str()
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
    if values.next().is_some() {
        None
    } else {
        digits.parse().ok()
    }
}

fn wants_keep_alive<B>(request: &Request<B>) -> bool {
    let connection = request
        .headers()
        .get(CONNECTION)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let says = |option: &str| {
        connection
            .split(',')
            .any(|said| said.trim().eq_ignore_ascii_case(option))
    };
    if request.version() == Version::HTTP_10 {
        says("keep-alive")
    } else {
        !says("close")
    }
}

/// Writes a reply as its delivery says; `false` if the connection is to be closed.
async fn write_reply<S>(
    stream: &mut S,
    reply: Reply,
    method: &Method,
    keep_alive: bool,
) -> io::Result<bool>
where
    S: AsyncWrite + Unpin,
{
    let has_body = reply.has_body(method);
    let delivery = reply.delivery.clone();
    if delivery.close == Some(Close::BeforeHeaders) {
        return Ok(false);
    }
    let until_close = has_body && (delivery.no_length || delivery.drip.is_some());
    let keep_alive = keep_alive && !until_close;
    let framing = if until_close || !has_body && reply.status == StatusCode::NO_CONTENT {
        String::new()
    } else if delivery.chunked && has_body {
        "transfer-encoding: chunked\r\n".to_owned()
    } else {
        format!("content-length: {}\r\n", reply.body.length())
    };
    let mut head = head(&reply, &framing, keep_alive);
    let mut writer = Writer {
        stream,
        split: delivery.split,
    };

    if delivery.endless_headers {
        return writer.endless_headers(&head).await.map(|()| false);
    }
    if delivery.close == Some(Close::MidHeaders) {
        head.truncate(head.len() / 2);
        return writer.write(&head).await.map(|()| false);
    }
    let body = if has_body {
        reply.body
    } else {
        Body::default()
    };
    if delivery.is_plain() && body.fill_length == 0 {
        head.extend_from_slice(&body.start);
        writer.write(&head).await?;
    } else if let Some(pause) = delivery.drip {
        writer.write(&head).await?;
        // Cannot end but by the peer's closing.
        let mut start = body.start.iter().copied();
        loop {
            writer.write(&[start.next().unwrap_or(b'A')]).await?;
            tokio::time::sleep(pause).await;
        }
    } else {
        writer.write(&head).await?;
        let cut = delivery.close == Some(Close::MidBody);
        let body = if cut { body.halved() } else { body };
        if delivery.chunked {
            for piece in body.pieces(CHUNK) {
                let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
                chunk.extend_from_slice(&piece);
                chunk.extend_from_slice(b"\r\n");
                writer.write(&chunk).await?;
            }
            if !cut && has_body {
                writer.write(b"0\r\n\r\n").await?;
            }
        } else {
            for piece in body.pieces(usize::MAX) {
                writer.write(&piece).await?;
            }
        }
        if cut {
            return Ok(false);
        }
    }
    if !keep_alive {
        writer.stream.shutdown().await?;
    }
    Ok(keep_alive)
}

fn head(reply: &Reply, framing: &str, keep_alive: bool) -> Vec<u8> {
    let status = reply.status;
    let reason = status.canonical_reason().unwrap_or("Unknown");
    let date = httpdate::fmt_http_date(SystemTime::now());
    let mut head =
        format!("HTTP/1.1 {} {reason}\r\ndate: {date}\r\n", status.as_u16()).into_bytes();
    for (name, value) in &reply.headers {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(framing.as_bytes());
    if !keep_alive {
        head.extend_from_slice(b"connection: close\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// Writes at once, or piece by piece with pauses.
struct Writer<'a, S> {
    stream: &'a mut S,
    split: Option<usize>,
}

impl<S: AsyncWrite + Unpin> Writer<'_, S> {
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(size) = self.split else {
            self.stream.write_all(bytes).await?;
            return self.stream.flush().await;
        };
        for piece in bytes.chunks(size) {
            self.stream.write_all(piece).await?;
            self.stream.flush().await?;
            tokio::time::sleep(SPLIT_PAUSE).await;
        }
        Ok(())
    }

    async fn endless_headers(&mut self, head: &[u8]) -> io::Result<()> {
        // Without the empty line that would end them.
        self.write(head.strip_suffix(b"\r\n").unwrap_or(head))
            .await?;
        let mut written = 0;
        for number in 0_u64.. {
            let field = format!("x-endless-{number}: {}\r\n", "a".repeat(200));
            self.write(field.as_bytes()).await?;
            written += field.len();
            if written > ENDLESS {
                break;
            }
        }
        Ok(())
    }
}
