//! HTTP and TLS to the authorization server.
//!
//! Nothing here decides about tokens: a request goes out, an answer of bounded size comes back, or a failure that
//! says what an operator can do about it.

use std::error::Error as StdError;
use std::sync::OnceLock;
use std::time::Duration;

use http::HeaderMap;
use zeroize::Zeroizing;

use crate::introspection::Request;
use crate::server::Endpoint;
use crate::{Error, ErrorKind, Provider};

/// An idle connection is closed after this: below the 60 s and more after which servers and middleboxes do it, so
/// that it is mostly us who end one.
const IDLE: Duration = Duration::from_secs(30);

/// What came back.
pub(super) struct Response {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Zeroizing<Vec<u8>>,
}

/// A call that failed.
pub(super) struct Failure {
    pub error: Error,
    /// Whether the same call on a fresh connection may do better.
    pub again: bool,
}

/// Connections to one provider's authorization server.
pub(super) struct Transport {
    pooled: Result<reqwest::Client, Error>,
    /// Connects anew for every call.
    fresh: OnceLock<Result<reqwest::Client, Error>>,
}

impl Transport {
    /// Takes some milliseconds: certificates are read.
    pub(super) fn new(provider: &Provider) -> Self {
        Transport {
            pooled: client(provider, provider.max_concurrent),
            fresh: OnceLock::new(),
        }
    }

    /// Makes a call; with `fresh` on a connection of its own.
    pub(super) async fn call(
        &self,
        provider: &Provider,
        endpoint: &Endpoint,
        request: &Request,
        fresh: bool,
    ) -> Result<Response, Failure> {
        let client = if fresh {
            self.fresh.get_or_init(|| client(provider, 0))
        } else {
            &self.pooled
        };
        let client = client.as_ref().map_err(|error| Failure {
            error: error.clone(),
            again: false,
        })?;
        let mut call = client.request(request.method.clone(), endpoint.url.clone());
        if !request.body.is_empty() {
            call = call.body(request.body.to_vec());
        }
        for (name, value) in &request.headers {
            call = call.header(name, value);
        }
        let response = call
            .send()
            .await
            .map_err(|error| failure(provider, endpoint, &error))?;
        read(provider, endpoint, response).await
    }
}

fn client(provider: &Provider, max_idle: usize) -> Result<reqwest::Client, Error> {
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("phantom-token/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .connect_timeout(provider.connect_timeout)
        .pool_max_idle_per_host(max_idle)
        .pool_idle_timeout(IDLE)
        .tcp_keepalive(IDLE)
        // A connection that died without a word would otherwise swallow every call that is multiplexed on it.
        .http2_keep_alive_interval(IDLE)
        .http2_keep_alive_timeout(Duration::from_secs(5))
        .http2_max_header_list_size(64 * 1024);
    if !provider.ssl_verify {
        builder = builder.tls_danger_accept_invalid_certs(true);
    } else if let Some(pem) = &provider.trusted_certificates {
        let certificates = reqwest::Certificate::from_pem_bundle(pem)
            .map_err(|error| unusable(provider, &error))?;
        builder = builder.tls_certs_only(certificates);
    }
    builder.build().map_err(|error| unusable(provider, &error))
}

fn unusable(provider: &Provider, error: &reqwest::Error) -> Error {
    Error::new(
        ErrorKind::Unreachable,
        format!(
            "provider {:?}: TLS cannot be set up: {}; check ssl_trusted_certificate, or that the system has its \
             CA certificates installed",
            provider.name,
            root_cause(error)
        ),
    )
}

async fn read(
    provider: &Provider,
    endpoint: &Endpoint,
    mut response: reqwest::Response,
) -> Result<Response, Failure> {
    let status = response.status().as_u16();
    let headers = std::mem::take(response.headers_mut());
    let limit = provider.max_response_size;
    let announced = response.content_length().unwrap_or(0);
    let too_large = || Failure {
        error: Error::new(
            ErrorKind::BadAnswer,
            format!(
                "{}: the answer is larger than {limit} bytes; is this the introspection endpoint? If such large \
                 answers are right, raise max_response_size",
                provider.place(endpoint)
            ),
        ),
        again: false,
    };
    if announced > limit as u64 {
        return Err(too_large());
    }
    // Reserved in full, so that no copy of the JWT is left behind by growing.
    let mut body = Zeroizing::new(Vec::with_capacity(match announced {
        0 => limit.min(16 * 1024),
        // At most `limit`, which is a usize.
        announced => announced as usize,
    }));
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| failure(provider, endpoint, &error))?
    {
        if body.len() + chunk.len() > limit {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Response {
        status,
        headers,
        body,
    })
}

/// No answer within the provider's `timeout`.
pub(super) fn timed_out(provider: &Provider, endpoint: &Endpoint, after: Duration) -> Error {
    Error::new(
        ErrorKind::Timeout,
        format!(
            "{}: no answer within {:?}; the authorization server is too slow, or timeout is too short",
            provider.place(endpoint),
            after
        ),
    )
}

fn failure(provider: &Provider, endpoint: &Endpoint, error: &reqwest::Error) -> Failure {
    let cause = root_cause(error);
    let place = provider.place(endpoint);
    if let Some(tls) = find::<rustls::Error>(error) {
        return Failure {
            error: Error::new(
                ErrorKind::Unreachable,
                format!("{place}: TLS failed: {tls}{}", tls_mend(tls)),
            ),
            // Only what a peer or a lost segment did to this one connection may pass.
            again: !matches!(
                tls,
                rustls::Error::InvalidCertificate(_)
                    | rustls::Error::AlertReceived(_)
                    | rustls::Error::PeerIncompatible(_)
            ),
        };
    }
    if error.is_timeout() {
        let message = if error.is_connect() {
            format!(
                "{place}: no connection within {:?}; is the authorization server up, and does a firewall drop the \
                 packets?",
                provider.connect_timeout
            )
        } else {
            format!("{place}: the connection went silent: {cause}")
        };
        return Failure {
            error: Error::new(ErrorKind::Timeout, message),
            again: false,
        };
    }
    if error.is_connect() {
        let refused = find::<std::io::Error>(error)
            .is_some_and(|io| io.kind() == std::io::ErrorKind::ConnectionRefused);
        let mend = if refused {
            "is it running, and is the port right?"
        } else {
            &format!(
                "check the name and the address in {}",
                endpoint.purpose.key()
            )
        };
        return Failure {
            error: Error::new(
                ErrorKind::Unreachable,
                format!("{place}: no connection: {cause}; {mend}"),
            ),
            again: true,
        };
    }
    // What hyper cannot parse is an answer; what ends early is none.
    let unparsable = find::<hyper::Error>(error).is_some_and(|hyper| hyper.is_parse());
    if unparsable {
        return Failure {
            error: Error::new(
                ErrorKind::BadAnswer,
                format!(
                    "{place}: the answer is not HTTP: {cause}; is this the introspection endpoint?"
                ),
            ),
            // It may be the rest of the answer before it on this connection: there are servers that send a body
            // with 204, after it.
            again: true,
        };
    }
    Failure {
        error: Error::new(
            ErrorKind::Unreachable,
            format!("{place}: the connection was lost before the answer was whole: {cause}"),
        ),
        again: true,
    }
}

fn tls_mend(error: &rustls::Error) -> &'static str {
    use rustls::CertificateError as Certificate;

    match error {
        rustls::Error::InvalidCertificate(
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. },
        ) => "; the name in the URL must be one that the certificate is for",
        rustls::Error::InvalidCertificate(
            Certificate::Expired | Certificate::ExpiredContext { .. },
        ) => {
            "; the authorization server needs a new certificate (or this machine's clock is wrong)"
        }
        rustls::Error::InvalidCertificate(Certificate::UnknownIssuer) => {
            "; set ssl_trusted_certificate to the authority that issued it"
        }
        _ => "",
    }
}

/// The innermost error: the outer ones only say that something inside them failed.
fn root_cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn StdError = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// An error of type `T` in the chain, also where an `io::Error` wraps it.
fn find<T: StdError + 'static>(error: &reqwest::Error) -> Option<&T> {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(current) = cause {
        if let Some(found) = current.downcast_ref::<T>() {
            return Some(found);
        }
        let wrapped = current
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref);
        if let Some(inner) = wrapped
            && let Some(found) = (inner as &(dyn StdError + 'static)).downcast_ref::<T>()
        {
            return Some(found);
        }
        cause = match wrapped {
            Some(inner) => Some(inner),
            None => current.source(),
        };
    }
    None
}
