//! The transport to the authorization server, against real TLS servers, Unix sockets and proxies.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use phantom_token::{Client, Config, Error, ErrorKind, Token, Verdict};
use rcgen::{CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{
    ProtocolVersion, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    SupportedProtocolVersion,
};
use support::{Server, active_after, jwt_of, read_request, response};
use tempfile::TempDir;

/// A certificate authority.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as PEM.
struct Pair {
    certificate: String,
    key: KeyPair,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn issue(&self, name: &str, usage: ExtendedKeyUsagePurpose) -> Pair {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        Pair {
            certificate: params.signed_by(&key, &self.0).unwrap().pem(),
            key,
        }
    }

    fn server(&self, name: &str) -> Pair {
        self.issue(name, ExtendedKeyUsagePurpose::ServerAuth)
    }

    fn client(&self) -> Pair {
        self.issue("gateway", ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).unwrap();
        roots
    }
}

/// Temporary files of a test.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Files(TempDir::new().unwrap())
    }

    fn write(&self, name: &str, content: &str) -> String {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn authority(&self, authority: &Authority) -> String {
        self.write("ca.pem", &authority.0.pem())
    }

    /// The settings of a client certificate.
    fn client(&self, pair: &Pair) -> [(&'static str, String); 2] {
        [
            (
                "ssl_certificate",
                self.write("client.pem", &pair.certificate),
            ),
            (
                "ssl_certificate_key",
                self.write("client.key", &pair.key.serialize_pem()),
            ),
        ]
    }
}

/// The TLS properties of a request, as the server saw them.
#[derive(Clone, Debug)]
struct Seen {
    head: String,
    name: Option<String>,
    version: Option<ProtocolVersion>,
    certificates: usize,
}

/// An authorization server that supports HTTP/1.1 over TLS and answers that every token is active.
struct TlsServer {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl TlsServer {
    fn start(
        pair: &Pair,
        versions: &[&'static SupportedProtocolVersion],
        clients_of: Option<&Authority>,
    ) -> Self {
        let crypto = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(Arc::clone(&crypto))
            .with_protocol_versions(versions)
            .unwrap();
        let config = match clients_of {
            Some(authority) => config.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(authority.roots().into(), crypto)
                    .build()
                    .unwrap(),
            ),
            None => config.with_no_client_auth(),
        };
        let chain = vec![pem_to_der(&pair.certificate)];
        let key = PrivateKeyDer::try_from(pair.key.serialize_der()).unwrap();
        let config = Arc::new(config.with_single_cert(chain, key).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = TlsServer {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
        };
        let seen = Arc::clone(&server.seen);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                let seen = Arc::clone(&seen);
                thread::spawn(move || serve_tls(StreamOwned::new(connection, stream), &seen));
            }
        });
        server
    }

    fn url(&self, host: &str) -> String {
        format!("https://{host}:{}/introspect", self.address.port())
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

fn pem_to_der(pem: &str) -> rustls::pki_types::CertificateDer<'static> {
    use rustls::pki_types::pem::PemObject;
    PemObject::from_pem_slice(pem.as_bytes()).unwrap()
}

fn serve_tls(mut stream: StreamOwned<ServerConnection, TcpStream>, seen: &Mutex<Vec<Seen>>) {
    let mut buffer = Vec::new();
    while let Some((head, body)) = read_request(&mut stream, &mut buffer) {
        seen.lock().unwrap().push(Seen {
            head,
            name: stream.conn.server_name().map(str::to_owned),
            version: stream.conn.protocol_version(),
            certificates: stream.conn.peer_certificates().map_or(0, <[_]>::len),
        });
        if stream.write_all(&answer(&body)).is_err() {
            return;
        }
    }
    // The client's data is read first, so that the client receives the alert.
    let _ = stream.sock.shutdown(Shutdown::Write);
    let _ = stream.sock.read_to_end(&mut Vec::new());
}

/// A bare JWT for the token in the form.
fn answer(body: &str) -> Vec<u8> {
    let token = form_urlencoded::parse(body.as_bytes())
        .find(|(name, _)| name == "token")
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default();
    response(200, &[("Content-Type", "application/jwt")], &jwt_of(&token))
}

fn config(endpoint: &str, settings: &[(&str, &str)]) -> Config {
    let mut config = support::config(endpoint);
    for (key, value) in settings {
        config.set(key, value).unwrap();
    }
    config
}

fn ask(endpoint: &str, settings: &[(&str, &str)]) -> Result<String, Error> {
    ask_of(&client(endpoint, settings), "opaque")
}

fn client(endpoint: &str, settings: &[(&str, &str)]) -> Client {
    Client::start(config(endpoint, settings).build().unwrap()).unwrap()
}

fn ask_of(client: &Client, token: &str) -> Result<String, Error> {
    let resolution = client.resolve(Token::parse(token.as_bytes()).unwrap(), None)?;
    match &resolution.verdict {
        Verdict::Active(active) => Ok(active.jwt().unwrap().to_owned()),
        Verdict::Inactive => panic!("inactive"),
    }
}

/// The error message about an authorization server that can't be reached.
fn unreachable(endpoint: &str, settings: &[(&str, &str)]) -> String {
    let error = ask(endpoint, settings).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error}");
    error.to_string()
}

const BOTH: &[&SupportedProtocolVersion] = &[&TLS12, &TLS13];

fn with<'a>(ca: &'a str, more: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    let mut settings = vec![("ssl_trusted_certificate", ca)];
    settings.extend(more.iter().map(|(key, value)| (*key, value.as_str())));
    settings
}

#[test]
fn a_server_that_wants_a_certificate_is_shown_ours() {
    let (files, authority) = (Files::new(), Authority::new());
    let ca = files.authority(&authority);
    for versions in [&[&TLS12][..], &[&TLS13]] {
        let server = TlsServer::start(&authority.server("localhost"), versions, Some(&authority));
        let pair = files.client(&authority.client());
        let jwt = ask(&server.url("localhost"), &with(&ca, &pair)).unwrap();
        assert_eq!(jwt, jwt_of("opaque"));
        assert_eq!(server.seen()[0].certificates, 1);
    }
    // A server that requests no client certificate receives none.
    let server = TlsServer::start(&authority.server("localhost"), BOTH, None);
    let pair = files.client(&authority.client());
    ask(&server.url("localhost"), &with(&ca, &pair)).unwrap();
    assert_eq!(server.seen()[0].certificates, 0);
}

#[test]
fn without_a_certificate_that_is_wanted_the_message_says_which_keys_to_set() {
    let (files, authority) = (Files::new(), Authority::new());
    let ca = files.authority(&authority);
    for versions in [&[&TLS12][..], &[&TLS13]] {
        let server = TlsServer::start(&authority.server("localhost"), versions, Some(&authority));
        let message = unreachable(&server.url("localhost"), &with(&ca, &[]));
        assert!(
            message.contains("set ssl_certificate and ssl_certificate_key"),
            "{message}"
        );
        assert!(server.seen().is_empty());
    }
}

#[test]
fn a_certificate_that_the_server_does_not_trust_is_said_to_be_refused() {
    let (files, authority) = (Files::new(), Authority::new());
    let ca = files.authority(&authority);
    for versions in [&[&TLS12][..], &[&TLS13]] {
        let server = TlsServer::start(&authority.server("localhost"), versions, Some(&authority));
        let pair = files.client(&Authority::new().client());
        let message = unreachable(&server.url("localhost"), &with(&ca, &pair));
        assert!(
            message.contains("it does not take our certificate"),
            "{message}"
        );
    }
}

#[test]
fn the_name_for_tls_is_sent_and_verified_and_the_host_stays() {
    let (files, authority) = (Files::new(), Authority::new());
    let ca = files.authority(&authority);
    let name = [("ssl_name", "as.example.com".to_owned())];
    for host in ["127.0.0.1", "localhost"] {
        let server = TlsServer::start(&authority.server("as.example.com"), BOTH, None);
        let url = server.url(host);

        let message = unreachable(&url, &with(&ca, &[]));
        assert!(message.contains("or ssl_name be set to one"), "{message}");

        let client = client(&url, &with(&ca, &name));
        for token in ["one", "two"] {
            assert_eq!(ask_of(&client, token).unwrap(), jwt_of(token));
        }
        for seen in server.seen() {
            assert_eq!(seen.name.as_deref(), Some("as.example.com"));
            let host = format!("\r\nhost: {host}:{}\r\n", server.address.port());
            let head = seen.head.to_ascii_lowercase() + "\r\n";
            assert_eq!(head.matches("\r\nhost:").count(), 1, "{head}");
            assert!(head.contains(&host), "{head}");
            assert!(head.starts_with("post /introspect http/1.1\r\n"), "{head}");
        }
    }
    // The endpoint's own name is not used then.
    let server = TlsServer::start(&authority.server("localhost"), BOTH, None);
    let message = unreachable(&server.url("localhost"), &with(&ca, &name));
    assert!(
        message.contains("ssl_name must be a name that the certificate is for"),
        "{message}"
    );
    assert!(message.contains("at https://localhost:"), "{message}");
}

#[test]
fn each_of_several_servers_is_connected_to_under_one_name_for_tls() {
    let (files, authority) = (Files::new(), Authority::new());
    let ca = files.authority(&authority);
    let server = TlsServer::start(&authority.server("as.example.com"), BOTH, None);
    // No server listens on the first address. Both addresses have the same port.
    let first = format!("https://127.0.0.9:{}/introspect", server.address.port());
    let endpoints = format!("{first} {}", server.url("127.0.0.1"));
    let name = [("ssl_name", "as.example.com".to_owned())];
    ask(&endpoints, &with(&ca, &name)).unwrap();
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn only_the_versions_of_tls_that_are_allowed_are_spoken() {
    let (files, authority) = (Files::new(), Authority::new());
    let ca = files.authority(&authority);
    let pair = authority.server("localhost");
    let servers = [
        TlsServer::start(&pair, &[&TLS12], None),
        TlsServer::start(&pair, &[&TLS13], None),
        TlsServer::start(&pair, BOTH, None),
    ];
    let (tls12, tls13) = (ProtocolVersion::TLSv1_2, ProtocolVersion::TLSv1_3);
    for (allowed, spoken) in [
        ("TLSv1.2", [Some(tls12), None, Some(tls12)]),
        ("TLSv1.3", [None, Some(tls13), Some(tls13)]),
        ("TLSv1.2 TLSv1.3", [Some(tls12), Some(tls13), Some(tls13)]),
    ] {
        let protocols = [("ssl_protocols", allowed.to_owned())];
        for (server, spoken) in servers.iter().zip(spoken) {
            let url = server.url("localhost");
            match spoken {
                Some(version) => {
                    ask(&url, &with(&ca, &protocols)).unwrap();
                    assert_eq!(server.seen().last().unwrap().version, Some(version));
                }
                None => {
                    let message = unreachable(&url, &with(&ca, &protocols));
                    assert!(
                        message.contains("must speak a version that ssl_protocols allows"),
                        "{message}"
                    );
                }
            }
        }
    }
}

const SYSTEM_URL: &str = "PHANTOM_TOKEN_TEST_SYSTEM_URL";

#[test]
fn the_system_says_which_authorities_are_trusted_unless_a_file_does() {
    // In a process of its own, because the variables that locate the system's authorities are shared by the whole
    // process.
    if let Ok(url) = std::env::var(SYSTEM_URL) {
        ask(&url, &[]).unwrap();
        return;
    }
    let (files, authority) = (Files::new(), Authority::new());
    let ca = files.authority(&authority);
    let server = TlsServer::start(&authority.server("localhost"), BOTH, None);
    let url = server.url("localhost");
    let message = unreachable(&url, &[]);
    assert!(
        message.contains("set ssl_trusted_certificate") || message.contains("CA certificates"),
        "{message}"
    );
    let other = Files::new();
    let message = unreachable(&url, &with(&other.authority(&Authority::new()), &[]));
    assert!(message.contains("set ssl_trusted_certificate"), "{message}");

    let status = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "the_system_says_which_authorities_are_trusted_unless_a_file_does",
        ])
        .env(SYSTEM_URL, &url)
        .env("SSL_CERT_FILE", &ca)
        .env_remove("SSL_CERT_DIR")
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(server.seen().len(), 1);
}

/// An authorization server at a Unix socket. Returns the heads of the received requests, each with the number of its
/// connection.
fn unix_server(path: &str) -> Arc<Mutex<Vec<(usize, String)>>> {
    let listener = UnixListener::bind(path).unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let heads = Arc::clone(&seen);
    thread::spawn(move || {
        for (connection, stream) in listener.incoming().map_while(Result::ok).enumerate() {
            let heads = Arc::clone(&heads);
            thread::spawn(move || serve_unix(stream, connection, &heads));
        }
    });
    seen
}

fn serve_unix(mut stream: UnixStream, connection: usize, heads: &Mutex<Vec<(usize, String)>>) {
    let mut buffer = Vec::new();
    while let Some((head, body)) = read_request(&mut stream, &mut buffer) {
        heads.lock().unwrap().push((connection, head));
        if stream.write_all(&answer(&body)).is_err() {
            return;
        }
    }
}

#[test]
fn an_endpoint_at_a_unix_socket_is_asked_there_and_never_through_a_proxy() {
    let files = Files::new();
    let path = files.path("as.sock");
    let seen = unix_server(&path);
    let proxy = Proxy::start(None);
    let client = client(
        &format!("unix:{path}:/introspect?tenant=x"),
        &[("proxy", &proxy.url(""))],
    );
    for token in ["one", "two"] {
        assert_eq!(ask_of(&client, token).unwrap(), jwt_of(token));
    }
    let seen = seen.lock().unwrap();
    for (connection, head) in &*seen {
        assert_eq!(*connection, 0, "it is kept");
        assert!(
            head.starts_with("POST /introspect?tenant=x HTTP/1.1\r\n"),
            "{head}"
        );
        assert!(
            head.to_ascii_lowercase()
                .contains("\r\nhost: localhost\r\n"),
            "{head}"
        );
    }
    assert_eq!(seen.len(), 2);
    assert!(proxy.seen().is_empty());
}

#[test]
fn sockets_and_urls_stand_in_for_one_another() {
    let files = Files::new();
    let (missing, path) = (files.path("missing.sock"), files.path("as.sock"));
    let seen = unix_server(&path);
    let server = Server::start(active_after(Duration::ZERO));
    // A socket after a URL without a listener, and a URL after a socket that does not exist.
    ask(
        &format!("http://127.0.0.1:1/introspect unix:{path}:/introspect"),
        &[],
    )
    .unwrap();
    assert_eq!(seen.lock().unwrap().len(), 1);
    ask(&format!("unix:{missing}:/introspect {}", server.url()), &[]).unwrap();
    assert_eq!(server.calls().len(), 1);
}

#[test]
fn a_socket_that_cannot_be_used_is_named_with_the_mend() {
    let files = Files::new();
    let path = files.path("as.sock");
    let message = unreachable(&format!("unix:{path}:/introspect?key=SECRET"), &[]);
    assert!(
        message.contains(&format!(
            "introspection at unix:{path}:/introspect: no connection"
        )),
        "{message}"
    );
    assert!(
        message.contains("is this the path of its socket?"),
        "{message}"
    );
    assert!(!message.contains("SECRET"), "{message}");

    drop(UnixListener::bind(&path).unwrap());
    let message = unreachable(&format!("unix:{path}:/introspect"), &[]);
    assert!(message.contains("is it running?"), "{message}");
}

#[test]
fn plain_http_needs_no_authorities() {
    let server = Server::start(active_after(Duration::ZERO));
    let empty = Files::new().write("empty.pem", "");
    // In a process of its own, as above: the system has no trusted authorities.
    let status = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "the_system_says_which_authorities_are_trusted_unless_a_file_does",
        ])
        .env(SYSTEM_URL, server.url())
        .env("SSL_CERT_FILE", &empty)
        .env_remove("SSL_CERT_DIR")
        .status()
        .unwrap();
    assert!(status.success());
}

/// A forward proxy. It opens tunnels to this machine for any host, and answers other requests itself like an
/// authorization server.
struct Proxy {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// `wants` is the required value of `Proxy-Authorization`, if any.
    fn start(wants: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
        };
        let seen = Arc::clone(&proxy.seen);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let seen = Arc::clone(&seen);
                thread::spawn(move || serve_proxy(stream, wants, &seen));
            }
        });
        proxy
    }

    fn url(&self, credentials: &str) -> String {
        format!("http://{credentials}{}", self.address)
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }
}

fn serve_proxy(mut stream: TcpStream, wants: Option<&str>, seen: &Mutex<Vec<String>>) {
    let mut buffer = Vec::new();
    while let Some((head, body)) = read_request(&mut stream, &mut buffer) {
        let allowed = wants.is_none_or(|wants| {
            head.lines().any(|line| {
                line.split_once(": ").is_some_and(|(name, value)| {
                    name.eq_ignore_ascii_case("proxy-authorization") && value == wants
                })
            })
        });
        seen.lock().unwrap().push(head.clone());
        if !allowed {
            let _ = stream.write_all(&response(407, &[], ""));
            return;
        }
        let Some(target) = head.strip_prefix("CONNECT ") else {
            if stream.write_all(&answer(&body)).is_err() {
                return;
            }
            continue;
        };
        let port: u16 = target
            .split_once(' ')
            .and_then(|(authority, _)| authority.rsplit_once(':'))
            .and_then(|(_, port)| port.parse().ok())
            .unwrap();
        let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)) else {
            let _ = stream.write_all(&response(502, &[], ""));
            return;
        };
        stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").unwrap();
        let (mut from, mut to) = (stream.try_clone().unwrap(), server.try_clone().unwrap());
        thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        });
        let _ = std::io::copy(&mut server, &mut stream);
        let _ = stream.shutdown(Shutdown::Write);
        return;
    }
}

#[test]
fn a_proxy_opens_a_tunnel_and_tls_ends_at_the_server() {
    let (files, authority) = (Files::new(), Authority::new());
    let ca = files.authority(&authority);
    // A host name that only the proxy can resolve.
    let server = TlsServer::start(&authority.server("as.test"), BOTH, Some(&authority));
    let proxy = Proxy::start(Some("Basic dXNlcjpwQHNz"));
    let mut settings = files.client(&authority.client()).to_vec();
    settings.push(("proxy", proxy.url("user:p%40ss@")));
    let client = client(&server.url("as.test"), &with(&ca, &settings));
    for token in ["one", "two"] {
        assert_eq!(ask_of(&client, token).unwrap(), jwt_of(token));
    }
    let tunnels = proxy.seen();
    assert_eq!(tunnels.len(), 1, "it is kept");
    let port = server.address.port();
    assert!(
        tunnels[0].starts_with(&format!("CONNECT as.test:{port} HTTP/1.1\r\n")),
        "{}",
        tunnels[0]
    );
    assert!(
        !tunnels[0]
            .to_ascii_lowercase()
            .contains("\r\nauthorization:")
    );
    let seen = server.seen();
    assert_eq!(seen.len(), 2);
    assert_eq!(
        (seen[0].name.as_deref(), seen[0].certificates),
        (Some("as.test"), 1)
    );
    assert!(
        !seen[0]
            .head
            .to_ascii_lowercase()
            .contains("proxy-authorization")
    );
}

#[test]
fn what_is_http_is_asked_of_the_proxy() {
    let proxy = Proxy::start(Some("Basic dXNlcjo="));
    let jwt = ask(
        "http://as.test/introspect",
        &[("proxy", &proxy.url("user@"))],
    )
    .unwrap();
    assert_eq!(jwt, jwt_of("opaque"));
    let head = &proxy.seen()[0];
    assert!(
        head.starts_with("POST http://as.test/introspect HTTP/1.1\r\n"),
        "{head}"
    );
    assert!(
        head.to_ascii_lowercase().contains("\r\nhost: as.test\r\n"),
        "{head}"
    );
}

#[test]
fn the_certificate_of_a_proxy_is_verified_too() {
    let (files, authority) = (Files::new(), Authority::new());
    let ca = files.authority(&authority);
    // It answers like an authorization server, as a proxy does for `http` URLs.
    let proxy = TlsServer::start(&authority.server("localhost"), BOTH, None);
    let at = |host: &str| [("proxy", format!("https://{host}:{}", proxy.address.port()))];
    let url = "http://as.test/introspect";
    let settings = at("localhost");
    ask(url, &with(&ca, &settings)).unwrap();
    assert!(
        proxy.seen()[0]
            .head
            .starts_with("POST http://as.test/introspect HTTP/1.1\r\n")
    );
    let message = unreachable(url, &with(&ca, &at("127.0.0.1")));
    assert!(message.contains("TLS failed"), "{message}");
    assert_eq!(proxy.seen().len(), 1);
}

#[test]
fn a_proxy_that_does_not_help_is_named_without_its_password() {
    let (files, authority) = (Files::new(), Authority::new());
    let ca = files.authority(&authority);
    let unused = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let strict = Proxy::start(Some("Basic other"));
    let open = Proxy::start(None);
    for (proxy, endpoint, why) in [
        (
            format!("http://user:SECRET@{unused}"),
            "https://as.test/introspect",
            "is the proxy running",
        ),
        (
            strict.url("user:SECRET@"),
            "https://as.test/introspect",
            "proxy authorization required",
        ),
        (
            open.url("user:SECRET@"),
            "https://as.test:1/introspect",
            "lets us through to this host and port",
        ),
        (
            "http://user:SECRET@no-such-proxy.invalid".to_owned(),
            "https://as.test/introspect",
            "check proxy",
        ),
    ] {
        let message = unreachable(endpoint, &with(&ca, &[("proxy", proxy)]));
        assert!(message.contains(why), "{message}");
        assert!(message.contains(" through the proxy http://"), "{message}");
        assert!(!message.contains("SECRET"), "{message}");
    }
    // For an `http` URL the proxy itself answers.
    let error = ask(
        "http://as.test/introspect",
        &[("proxy", &strict.url("user:SECRET@"))],
    )
    .unwrap_err();
    assert!(error.to_string().contains("407"), "{error}");
    assert!(!error.to_string().contains("SECRET"), "{error}");
}
