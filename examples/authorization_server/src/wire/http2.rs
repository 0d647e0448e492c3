//! HTTP/2, by hyper. Misbehaviours that exist in HTTP/2 are done here; those about the bytes of HTTP/1.1
//! (`chunked`) have no meaning.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Channel, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{LARGEST_BODY, SPLIT_PAUSE};
use crate::app::App;
use crate::reply::{Body, Close, Delivery, Reply};

type ResponseBody = BoxBody<Bytes, io::Error>;

/// Serves a connection until the peer closes it.
pub async fn serve<S>(stream: S, app: Arc<App>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let app = Arc::clone(&app);
        async move {
            let method = request.method().clone();
            let (head, body) = request.into_parts();
            let reply = match Limited::new(body, LARGEST_BODY).collect().await {
                Ok(body) => app.answer(Request::from_parts(head, body.to_bytes())).await,
                Err(_) => Reply::json(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    &json!({ "error": "invalid_request" }),
                ),
            };
            let has_body = reply.has_body(&method);
            response(reply, has_body)
        }
    });
    hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service)
        .await
        .map_err(io::Error::other)
}

fn response(reply: Reply, has_body: bool) -> io::Result<Response<ResponseBody>> {
    let delivery = reply.delivery;
    if delivery.endless_headers
        || matches!(
            delivery.close,
            Some(Close::BeforeHeaders | Close::MidHeaders)
        )
    {
        // hyper resets the stream: as near as HTTP/2 comes to headers that break off.
        return Err(io::Error::other("a knob asked for it"));
    }
    let mut response = Response::new(ResponseBody::default());
    *response.status_mut() = reply.status;
    *response.headers_mut() = reply.headers;
    let whole = !delivery.chunked && !delivery.no_length && delivery.drip.is_none();
    if whole && (has_body || reply.status != StatusCode::NO_CONTENT) {
        response
            .headers_mut()
            .insert(CONTENT_LENGTH, HeaderValue::from(reply.body.length()));
    }
    if has_body {
        *response.body_mut() = if delivery.is_plain() && reply.body.fill_length == 0 {
            Full::new(reply.body.start)
                .map_err(|never| match never {})
                .boxed()
        } else {
            streamed(reply.body, delivery)
        };
    }
    Ok(response)
}

fn streamed(body: Body, delivery: Delivery) -> ResponseBody {
    let (mut sender, channel) = Channel::new(1);
    tokio::spawn(async move {
        let cut = delivery.close == Some(Close::MidBody);
        let body = if cut { body.halved() } else { body };
        if let Some(pause) = delivery.drip {
            let mut start = body.start;
            loop {
                let byte = if start.is_empty() {
                    Bytes::from_static(b"A")
                } else {
                    start.split_to(1)
                };
                if sender.send_data(byte).await.is_err() {
                    return;
                }
                tokio::time::sleep(pause).await;
            }
        }
        for piece in body.pieces(delivery.split.unwrap_or(usize::MAX)) {
            if sender.send_data(piece).await.is_err() {
                return;
            }
            if delivery.split.is_some() {
                tokio::time::sleep(SPLIT_PAUSE).await;
            }
        }
        if cut {
            sender.abort(io::Error::other("a knob asked for it"));
        }
    });
    channel.boxed()
}
