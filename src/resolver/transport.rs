//! HTTP and TLS to the authorization server.
//!
//! Nothing here decides about tokens: a request goes out, and the result is an answer of bounded size or a failure that
//! says what an operator can do about it.
//!
//! **Addresses.** All addresses of a name are tried when a connection is made, IPv6 and IPv4 at the same time where the
//! first kind is slow (RFC 8305). The name is looked up again for every connection. So an address that the name no
//! longer has stays in use for at most the lifetime of a connection: an idle one [`IDLE`], any other [`AGE`].
//!
//! **`ssl_name`.** The HTTP client takes one name from the URL for all purposes. So the URL contains the name that TLS
//! is to use, and that name resolves to the addresses of the endpoint's own host. `Host` contains the value that it
//! would have without `ssl_name`. HTTP/2 has no `Host` beside the URL's name, so these calls are HTTP/1.1. The
//! certificate verifier needs no special setting.

use std::error::Error as StdError;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::header::{HOST, HeaderMap, HeaderValue};
use parking_lot::Mutex;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};
use zeroize::Zeroizing;

use crate::config::{Proxy, SslProtocols};
use crate::oauth::Endpoint;
use crate::oauth::Request;
use crate::{Error, ErrorKind, Provider, clock};

/// The time after which an idle connection is closed. It is below the 60 s and more after which servers and middleboxes
/// close it, so that mostly we are the side that closes.
const IDLE: Duration = Duration::from_secs(30);

/// The maximum age of a connection on which a call is started, however busy it is.
const AGE: Duration = Duration::from_secs(300);

/// An HTTP response.
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
    pub blame: Blame,
}

/// Who may be to blame for a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blame {
    /// The authorization server, or the path to it: no client's token was involved.
    Server,
    /// The server, or the token that was sent: the results for other tokens tell.
    Token,
    /// Neither.
    Nobody,
}

/// Connections to one provider's authorization server.
pub(super) struct Transport {
    clients: Mutex<Vec<Made>>,
}

/// The properties that calls must have in common to share connections.
#[derive(Clone, PartialEq, Eq)]
struct Route {
    /// The Unix socket of the endpoint.
    socket: Option<PathBuf>,
    /// The host to connect to where the URL contains the name for TLS instead.
    host: Option<String>,
    /// Whether TLS is used, so that there is a certificate to verify.
    tls: bool,
    /// Every call makes a new connection.
    fresh: bool,
}

/// A client, which is a pool of connections.
struct Made {
    route: Route,
    client: Result<reqwest::Client, Error>,
    /// The time when it was created, in milliseconds on the monotonic clock.
    at: u64,
}

impl Transport {
    /// Takes some milliseconds: it reads certificates.
    pub(super) fn new(provider: &Provider) -> Self {
        let transport = Transport {
            clients: Mutex::new(Vec::new()),
        };
        let now = clock::now().monotonic;
        for endpoint in provider.server.all() {
            if endpoint.host.is_some() {
                continue;
            }
            // An error at this point is reported to the callers.
            let _ = transport.client(provider, Route::of(provider, &endpoint, false), now);
        }
        transport
    }

    /// Makes a call; with `fresh` on a connection of its own.
    pub(super) async fn call(
        &self,
        provider: &Provider,
        endpoint: &Endpoint,
        request: &Request,
        fresh: bool,
    ) -> Result<Response, Failure> {
        let route = Route::of(provider, endpoint, fresh);
        let (url, host) = target(provider, endpoint, &route);
        let client = self
            .client(provider, route, clock::now().monotonic)
            .map_err(|error| Failure {
                error,
                again: false,
                blame: Blame::Server,
            })?;
        let mut call = client.request(request.method.clone(), url);
        if !request.body.is_empty() {
            call = call.body(request.body.to_vec());
        }
        for (name, value) in &request.headers {
            call = call.header(name, value);
        }
        if let Some(host) = host {
            call = call.header(HOST, host);
        }
        let response = call
            .send()
            .await
            .map_err(|error| failure(provider, endpoint, &error))?;
        read(provider, endpoint, response).await
    }

    /// The client for a route. Callers that still use a client that has become too old keep it until their call has
    /// ended; then its connections are closed.
    fn client(
        &self,
        provider: &Provider,
        route: Route,
        now: u64,
    ) -> Result<reqwest::Client, Error> {
        let mut clients = self.clients.lock();
        if let Some(made) = clients.iter().find(|made| made.route == route)
            && !made.is_old(now)
        {
            return made.client.clone();
        }
        clients.retain(|made| !made.is_old(now));
        let client = client(provider, &route);
        clients.push(Made {
            route,
            client: client.clone(),
            at: now,
        });
        client
    }
}

impl Made {
    fn is_old(&self, now: u64) -> bool {
        u128::from(now.saturating_sub(self.at)) >= AGE.as_millis()
    }
}

impl Route {
    fn of(provider: &Provider, endpoint: &Endpoint, fresh: bool) -> Self {
        let tls = endpoint.url.scheme() == "https";
        let renamed = tls && provider.ssl_name.is_some();
        Route {
            socket: endpoint.socket.clone(),
            host: renamed
                .then(|| endpoint.url.host())
                .flatten()
                .map(|host| match host {
                    Host::Domain(name) => name.to_owned(),
                    Host::Ipv4(address) => address.to_string(),
                    Host::Ipv6(address) => address.to_string(),
                }),
            tls,
            fresh,
        }
    }
}

/// The URL for the HTTP client, and the value of `Host` if that is not the URL's host.
fn target(provider: &Provider, endpoint: &Endpoint, route: &Route) -> (Url, Option<HeaderValue>) {
    let mut url = endpoint.url.clone();
    let (Some(name), Some(_)) = (&provider.ssl_name, &route.host) else {
        return (url, None);
    };
    let host = match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (host, _) => host.unwrap_or_default().to_owned(),
    };
    // Neither fails: a host of a URL has only visible ASCII, and the name was read by the same parser.
    let host = HeaderValue::try_from(host).ok();
    let _ = url.set_host(Some(name));
    (url, host)
}

/// Resolves one host, for any name that is asked for.
struct Always(Arc<str>);

impl Resolve for Always {
    fn resolve(&self, _: Name) -> Resolving {
        let host = Arc::clone(&self.0);
        Box::pin(async move {
            // The port comes from the URL.
            let addresses: Vec<SocketAddr> = tokio::net::lookup_host((&*host, 0)).await?.collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

fn client(provider: &Provider, route: &Route) -> Result<reqwest::Client, Error> {
    builder(provider, route)
        .and_then(reqwest::ClientBuilder::build)
        .map_err(|error| unusable(provider, &error))
}

fn builder(provider: &Provider, route: &Route) -> reqwest::Result<reqwest::ClientBuilder> {
    let max_idle = if route.fresh {
        0
    } else {
        provider.max_concurrent
    };
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("phantom-token/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .referer(false)
        .connect_timeout(connect_timeout(provider))
        .pool_max_idle_per_host(max_idle)
        .pool_idle_timeout(IDLE)
        .tcp_keepalive(IDLE)
        // A connection that died without a word would otherwise swallow every call that is multiplexed on it.
        .http2_keep_alive_interval(IDLE)
        .http2_keep_alive_timeout(Duration::from_secs(5))
        .http2_max_header_list_size(64 * 1024);
    if let Some(path) = &route.socket {
        builder = builder.unix_socket(path.as_path());
    }
    if let Some(host) = &route.host {
        builder = builder
            .http1_only()
            .dns_resolver(Always(host.as_str().into()));
    }
    let mut tls = route.tls;
    if let (Some(proxy), None) = (&provider.proxy, &route.socket) {
        tls |= proxy.tls;
        builder = builder.proxy(reqwest::Proxy::all(proxy.url.expose())?);
    }
    if !tls {
        // Nothing is verified: this works on a machine without any certificate authorities too.
        builder = builder.tls_certs_only([]);
    } else if !provider.ssl_verify {
        builder = builder.tls_danger_accept_invalid_certs(true);
    } else if let Some(pem) = &provider.trusted_certificates {
        let certificates = reqwest::Certificate::from_pem_bundle(pem)?;
        builder = builder.tls_certs_only(certificates);
    }
    if let Some(pem) = &provider.client_certificate {
        builder = builder.identity(reqwest::Identity::from_pem(pem)?);
    }
    match provider.ssl_protocols {
        SslProtocols::Tls12 => builder = builder.tls_version_max(reqwest::tls::Version::TLS_1_2),
        SslProtocols::Tls13 => builder = builder.tls_version_min(reqwest::tls::Version::TLS_1_3),
        SslProtocols::Both => {}
    }
    Ok(builder)
}

/// The time limit for making a connection. It ends before `timeout` does, so that a server that can't be reached is
/// distinguished from one that has the token and does not answer.
fn connect_timeout(provider: &Provider) -> Duration {
    provider.connect_timeout.min(provider.timeout * 3 / 4)
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
        error: too_large(provider, endpoint),
        again: false,
        blame: Blame::Token,
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

/// An answer of more than `max_response_size`.
pub(super) fn too_large(provider: &Provider, endpoint: &Endpoint) -> Error {
    let place = provider.place(endpoint);
    let limit = provider.max_response_size;
    let mend = match endpoint.host {
        Some(_) => "",
        None => " If such large answers are right, raise max_response_size",
    };
    Error::new(
        ErrorKind::BadAnswer,
        format!(
            "{place}: the answer is larger than {limit} bytes; is this the introspection endpoint?{mend}"
        ),
    )
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

/// The proxy through which the endpoint is asked.
fn proxy<'a>(provider: &'a Provider, endpoint: &Endpoint) -> Option<&'a Proxy> {
    match endpoint.socket {
        None => provider.proxy.as_ref(),
        Some(_) => None,
    }
}

fn failure(provider: &Provider, endpoint: &Endpoint, error: &reqwest::Error) -> Failure {
    let cause = root_cause(error);
    // A call that fails to connect has sent nothing.
    let blame = if error.is_connect() {
        Blame::Server
    } else {
        Blame::Token
    };
    let mut place = provider.place(endpoint);
    let proxy = proxy(provider, endpoint);
    if let Some(proxy) = proxy {
        place.push_str(&format!(" through the proxy {}", proxy.shown));
    }
    if let Some(tls) = find::<rustls::Error>(error) {
        return Failure {
            error: Error::new(
                ErrorKind::Unreachable,
                format!("{place}: TLS failed: {tls}{}", tls_mend(provider, tls)),
            ),
            // Only errors that a peer or a lost segment caused on this one connection may be temporary.
            again: !matches!(
                tls,
                rustls::Error::InvalidCertificate(_)
                    | rustls::Error::AlertReceived(_)
                    | rustls::Error::PeerIncompatible(_)
            ),
            blame,
        };
    }
    if error.is_timeout() {
        let message = if error.is_connect() {
            format!(
                "{place}: no connection within {:?}; is the authorization server up, and does a firewall drop the \
                 packets?",
                connect_timeout(provider)
            )
        } else {
            format!("{place}: the connection went silent: {cause}")
        };
        return Failure {
            error: Error::new(ErrorKind::Timeout, message),
            again: false,
            blame,
        };
    }
    if error.is_connect() {
        let kind = find::<io::Error>(error).map(io::Error::kind);
        let mend = match (&endpoint.socket, proxy, kind) {
            (Some(_), _, Some(io::ErrorKind::NotFound)) => {
                "is it running, and is this the path of its socket?"
            }
            (Some(_), _, Some(io::ErrorKind::PermissionDenied)) => {
                "this process's user must have the right to write to the socket and to enter its directory"
            }
            (Some(_), _, _) => "is it running?",
            (None, Some(_), Some(io::ErrorKind::ConnectionRefused)) => {
                "is the proxy running, and is its port right?"
            }
            (None, Some(_), _) => {
                "check proxy, with its user and password, and that it lets us through to this host and port"
            }
            (None, None, Some(io::ErrorKind::ConnectionRefused)) => {
                "is it running, and is the port right?"
            }
            (None, None, _) => &format!(
                "check the name and the address in {}",
                endpoint.purpose.key()
            ),
        };
        return Failure {
            error: Error::new(
                ErrorKind::Unreachable,
                format!("{place}: no connection: {cause}; {mend}"),
            ),
            again: true,
            blame,
        };
    }
    // Bytes that hyper cannot parse are an answer; an answer that ends early is none.
    let unparsable = find::<hyper::Error>(error).is_some_and(|hyper| hyper.is_parse());
    if unparsable {
        return Failure {
            error: Error::new(
                ErrorKind::BadAnswer,
                format!(
                    "{place}: the answer is not HTTP: {cause}; is this the introspection endpoint?"
                ),
            ),
            // The bytes may be the rest of the previous answer on this connection: some servers send a body after a
            // 204.
            again: true,
            blame,
        };
    }
    Failure {
        error: Error::new(
            ErrorKind::Unreachable,
            format!("{place}: the connection was lost before the answer was whole: {cause}"),
        ),
        again: true,
        blame,
    }
}

fn tls_mend(provider: &Provider, error: &rustls::Error) -> &'static str {
    use rustls::{AlertDescription as Alert, CertificateError as Certificate};

    let shown = provider.client_certificate.is_some();
    match error {
        rustls::Error::InvalidCertificate(
            Certificate::NotValidForName | Certificate::NotValidForNameContext { .. },
        ) => match provider.ssl_name {
            Some(_) => "; ssl_name must be a name that the certificate is for",
            None => {
                "; the name in the URL must be one that the certificate is for, or ssl_name be set to one"
            }
        },
        rustls::Error::InvalidCertificate(
            Certificate::Expired | Certificate::ExpiredContext { .. },
        ) => {
            "; the authorization server needs a new certificate (or this machine's clock is wrong)"
        }
        // The second: one of the issuer's name is trusted, but it has another key.
        rustls::Error::InvalidCertificate(
            Certificate::UnknownIssuer | Certificate::BadSignature,
        ) => "; set ssl_trusted_certificate to the authority that issued it",
        rustls::Error::AlertReceived(Alert::ProtocolVersion)
        | rustls::Error::PeerIncompatible(_) => {
            "; the authorization server must speak a version that ssl_protocols allows"
        }
        rustls::Error::AlertReceived(Alert::CertificateRequired) if !shown => {
            "; it wants to see a certificate of ours: set ssl_certificate and ssl_certificate_key"
        }
        rustls::Error::AlertReceived(
            Alert::CertificateRequired
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::DecryptError,
        ) if shown => {
            "; it does not take our certificate: check ssl_certificate (its issuer, its dates, and that what is between \
             it and its authority is in the file)"
        }
        rustls::Error::AlertReceived(Alert::UnrecognisedName) => {
            "; it has no such name: check the host in introspection_endpoint, or set ssl_name"
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
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;
    use crate::Config;

    fn provider(settings: &[(&str, &str)]) -> Arc<Provider> {
        let mut config = Config::new("main");
        for (key, value) in settings {
            config.set(key, value).unwrap();
        }
        config.build().unwrap()
    }

    /// A server on 127.0.0.1 that answers everything with nothing, and counts connections.
    fn server() -> (SocketAddr, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                count.fetch_add(1, Ordering::SeqCst);
                thread::spawn(move || {
                    while stream.read(&mut [0; 4096]).is_ok_and(|read| read > 0) {
                        let _ = stream.write_all(b"HTTP/1.1 204 x\r\n\r\n");
                    }
                });
            }
        });
        (address, connections)
    }

    #[tokio::test]
    async fn a_connection_is_kept_but_not_forever_however_busy_it_is() {
        let (address, connections) = server();
        let url = format!("http://{address}/");
        let provider = provider(&[("introspection_endpoint", &url)]);
        let transport = Transport::new(&provider);
        let route = Route::of(&provider, &provider.server.introspection[0], false);
        let start = clock::now().monotonic;
        let age = u64::try_from(AGE.as_millis()).unwrap();
        for (now, expected) in [
            (start, 1),
            (start + age / 2, 1),
            (start + age + 1000, 2),
            (start + age + 2000, 2),
        ] {
            let client = transport.client(&provider, route.clone(), now).unwrap();
            client.get(&url).send().await.unwrap();
            assert_eq!(connections.load(Ordering::SeqCst), expected, "at {now}");
        }
        assert_eq!(transport.clients.lock().len(), 1, "the old one has gone");
    }

    #[tokio::test]
    async fn every_address_of_a_name_is_tried() {
        let (address, _) = server();
        let provider = provider(&[("introspection_endpoint", "http://as.test/")]);
        let route = Route::of(&provider, &provider.server.introspection[0], false);
        // No server listens on the others.
        let others: [SocketAddr; 2] = [
            (Ipv6Addr::LOCALHOST, address.port()).into(),
            (Ipv4Addr::new(127, 0, 0, 9), address.port()).into(),
        ];
        for addresses in [
            [others[0], others[1], address],
            [others[1], address, others[0]],
        ] {
            let client = builder(&provider, &route)
                .unwrap()
                .resolve_to_addrs("as.test", &addresses)
                .build()
                .unwrap();
            let url = format!("http://as.test:{}/", address.port());
            client.get(url).send().await.unwrap();
        }
    }

    #[test]
    fn with_a_name_for_tls_the_url_has_that_name_and_the_rest_stays() {
        for (endpoint, url, host, to) in [
            (
                "https://as.internal/introspect?x=y",
                "https://as.example.com/introspect?x=y",
                Some("as.internal"),
                Some("as.internal"),
            ),
            (
                "https://as.internal:8443/",
                "https://as.example.com:8443/",
                Some("as.internal:8443"),
                Some("as.internal"),
            ),
            (
                "https://[::1]:8443/",
                "https://as.example.com:8443/",
                Some("[::1]:8443"),
                Some("::1"),
            ),
            (
                "https://192.0.2.1/",
                "https://as.example.com/",
                Some("192.0.2.1"),
                Some("192.0.2.1"),
            ),
            ("http://127.0.0.1/", "http://127.0.0.1/", None, None),
        ] {
            let endpoints = format!("https://other.internal/ {endpoint}");
            let provider = provider(&[
                ("introspection_endpoint", &endpoints),
                ("ssl_name", "AS.example.com"),
            ]);
            let endpoint = &provider.server.introspection[1];
            let route = Route::of(&provider, endpoint, false);
            let (changed, said) = target(&provider, endpoint, &route);
            assert_eq!(changed.as_str(), url);
            assert_eq!(said.as_ref().map(|host| host.to_str().unwrap()), host);
            assert_eq!(route.host.as_deref(), to);
        }
    }
}
