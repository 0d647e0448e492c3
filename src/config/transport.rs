//! The way to the authorization server: over a Unix socket or through a proxy, and our client certificate for TLS.

use std::fmt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use url::{Host, Url};
use zeroize::Zeroizing;

use super::build::{MAX_CERTIFICATE_FILE, MAX_SECRET_FILE, digest, read_file};
use super::rules::Invalid;
use super::url::{endpoint, is_host_name, is_loopback};
use super::{Config, ConfigError, Secret, SslProtocols};
use crate::oauth::Endpoint;

/// A forward proxy.
#[derive(Clone)]
pub struct Proxy {
    /// Its URL, with the user and the password in it.
    pub(crate) url: Secret,
    /// Its URL without them, for messages.
    pub(crate) shown: String,
    /// The user in the URL.
    user: String,
    /// Whether the proxy is reached over TLS.
    pub(crate) tls: bool,
    /// Whether the proxy is on this machine.
    loopback: bool,
    credentials: bool,
}

/// The way that calls take, and the trust in the server at its end.
pub(super) struct Way<'a> {
    pub ssl_verify: bool,
    pub trusted_certificates: Option<&'a [u8]>,
    pub ssl_name: Option<&'a str>,
    pub proxy: Option<&'a Proxy>,
    /// Our certificate, with its key.
    pub client_certificate: Option<&'a [u8]>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.shown, f)
    }
}

impl Way<'_> {
    /// The parts that identify this way, for the fingerprint. Their number is always the same.
    pub fn identity(&self) -> [String; 4] {
        let trust = match (self.ssl_verify, self.trusted_certificates) {
            (false, _) => "none".to_owned(),
            // The system defines its authorities, and its updates change them.
            (true, None) => "system".to_owned(),
            (true, Some(pem)) => {
                // The text between the certificates does not count, nor their order.
                let mut authorities: Vec<_> = CertificateDer::pem_slice_iter(pem)
                    .flatten()
                    .map(|certificate| digest(b"", &certificate))
                    .collect();
                authorities.sort_unstable();
                authorities.dedup();
                authorities.join(" ")
            }
        };
        let proxy = |part: fn(&Proxy) -> &str| self.proxy.map(part).unwrap_or_default().to_owned();
        [
            trust,
            self.ssl_name.unwrap_or_default().to_owned(),
            proxy(|proxy| &proxy.shown),
            // A proxy may choose its route by the user. The password may rotate.
            proxy(|proxy| &proxy.user),
        ]
    }
}

/// Reads a proxy's URL. No error repeats the URL: it may contain a password.
pub(super) fn proxy(value: &str) -> Result<Proxy, Invalid> {
    const SUCH: &str = "write it as http://proxy.example.com:3128";
    if value.is_empty() {
        return Err("is empty: set it to a URL, or leave it out".into());
    }
    // The parser below would silently drop or rewrite these.
    if value
        .chars()
        .any(|char| char.is_control() || char.is_whitespace() || char == '\\')
    {
        return Err(
            "has a space, a control character or a backslash in it: remove or encode it".into(),
        );
    }
    let lower = value.to_ascii_lowercase();
    let after_scheme = ["http://", "https://"]
        .into_iter()
        .find_map(|scheme| lower.strip_prefix(scheme));
    match after_scheme {
        None => return Err(format!("is not an http or https URL: {SUCH}").into()),
        Some(rest) if rest.starts_with(['/', '?', '#']) => {
            return Err(format!("has no host: {SUCH}").into());
        }
        Some(_) => {}
    }
    let url = Url::parse(value).map_err(|error| format!("is not a URL ({error}): {SUCH}"))?;
    // The HTTP client ignores a proxy whose URL is not a URI, and would connect directly.
    if url.as_str().parse::<http::Uri>().is_err() {
        return Err(
            "has a character in it that must be percent-encoded: encode it (in the password, most likely)".into(),
        );
    }
    let mut bare = url.clone();
    // A URL with a host allows both to be removed; if it kept them, the check below would refuse it.
    let _ = (bare.set_username(""), bare.set_password(None));
    let bare = endpoint(bare.as_str())?;
    if bare.path() != "/" || bare.query().is_some() {
        return Err(format!("has a path or a query, which no proxy has: {SUCH}").into());
    }
    Ok(Proxy {
        tls: bare.scheme() == "https",
        loopback: is_loopback(&bare),
        credentials: bare != url,
        user: url.username().to_owned(),
        shown: bare.as_str().trim_end_matches('/').to_owned(),
        url: Secret::new(url),
    })
}

/// The configured proxy.
pub(super) fn forward_proxy(
    config: &Config,
    endpoints: &[Endpoint],
    warnings: &mut Vec<String>,
) -> Result<Option<Proxy>, ConfigError> {
    let Some(proxy) = &config.proxy else {
        return Ok(None);
    };
    if config.ssl_name.is_some() {
        return Err(config.refuse(
            "proxy",
            "",
            "and ssl_name are both set: a proxy is told the name that is verified, so that name must be the one in the \
             URL; remove one of the two",
        ));
    }
    let mut warn = |text: &str| warnings.push(format!("provider {:?}: {text}", config.name));
    let mut proxied = endpoints
        .iter()
        .filter(|endpoint| endpoint.socket.is_none())
        .peekable();
    if proxied.peek().is_none() {
        warn("proxy is of no use: what is asked over a Unix socket is asked directly");
    }
    if !proxy.loopback && proxied.any(|endpoint| endpoint.url.scheme() == "http") {
        warn(
            "introspection_endpoint is http and asked through a proxy on another host, which reads access tokens, JWTs \
             and our credentials; use https",
        );
    }
    if !proxy.loopback && !proxy.tls && proxy.credentials {
        warn(
            "proxy is http on another host: the user and the password in it travel in clear; make it https if it speaks \
             that",
        );
    }
    Ok(Some(proxy.clone()))
}

/// Reads a name for TLS, and normalizes it to the form in which it is sent.
pub(super) fn server_name(value: &str) -> Result<String, Invalid> {
    if value.is_empty() {
        return Err("is empty: set it to a host name, or leave it out".into());
    }
    let name = match Host::parse(value) {
        Ok(Host::Domain(name)) => name,
        Ok(Host::Ipv4(_) | Host::Ipv6(_)) => {
            return Err(
                "is an address, which TLS does not send as a name (RFC 6066 §3): set it to a host name".into(),
            );
        }
        Err(_) => {
            return Err(
                "is not a host name: write it as as.example.com, with nothing around it".into(),
            );
        }
    };
    // Variables are not evaluated here. A certificate never has a dot at the end of a name.
    let sound =
        is_host_name(&name) && !name.ends_with('.') && ServerName::try_from(name.as_str()).is_ok();
    if !sound {
        return Err(
            "is not a host name (variables are not evaluated): write it as as.example.com, with nothing around it".into(),
        );
    }
    Ok(name)
}

/// The configured name for TLS.
pub(super) fn ssl_name(
    config: &Config,
    endpoints: &[Endpoint],
) -> Result<Option<String>, ConfigError> {
    let Some(value) = config.ssl_name.as_deref() else {
        return Ok(None);
    };
    if !any_tls(endpoints) {
        return Err(config.refuse(
            "ssl_name",
            &format!("{value:?}"),
            "is set while introspection_endpoint is http, where there is no TLS: make that https, or remove this",
        ));
    }
    // A value set through the field may have capital letters.
    Ok(server_name(value).ok())
}

/// Reads the allowed versions of TLS.
pub(super) fn ssl_protocols(value: &str) -> Result<SslProtocols, Invalid> {
    let (mut tls12, mut tls13) = (false, false);
    for word in value.split_ascii_whitespace() {
        match word {
            "TLSv1.2" => tls12 = true,
            "TLSv1.3" => tls13 = true,
            "SSLv2" | "SSLv3" | "TLSv1" | "TLSv1.1" => {
                return Err(
                    "names a version that is broken (RFC 8996) and not spoken here: write TLSv1.2, TLSv1.3 or both".into(),
                );
            }
            _ => {
                return Err(
                    "is not a list of versions: write TLSv1.2, TLSv1.3 or both, with a space between".into(),
                );
            }
        }
    }
    match (tls12, tls13) {
        (true, true) => Ok(SslProtocols::Both),
        (true, false) => Ok(SslProtocols::Tls12),
        (false, true) => Ok(SslProtocols::Tls13),
        (false, false) => Err("is empty: write TLSv1.2, TLSv1.3 or both, or leave it out".into()),
    }
}

/// Our certificate chain and its key as PEM. They are read from their files and checked to belong together.
pub(super) fn client_certificate(
    config: &Config,
    endpoints: &[Endpoint],
    warnings: &mut Vec<String>,
) -> Result<Option<Zeroizing<Vec<u8>>>, ConfigError> {
    let (path, key_path) = match (&config.ssl_certificate, &config.ssl_certificate_key) {
        (Some(path), Some(key_path)) => (path.as_path(), key_path.as_path()),
        (None, None) => return Ok(None),
        (Some(_), None) => {
            return Err(config.refuse(
                "ssl_certificate_key",
                "",
                "is missing: ssl_certificate needs its private key",
            ));
        }
        (None, Some(_)) => {
            return Err(config.refuse(
                "ssl_certificate",
                "",
                "is missing: ssl_certificate_key needs the certificate that it is for",
            ));
        }
    };
    let refuse = |refusal: &str| config.refuse("ssl_certificate", &format!("{path:?}"), refusal);
    let refuse_key =
        |refusal: &str| config.refuse("ssl_certificate_key", &format!("{key_path:?}"), refusal);
    if !any_tls(endpoints) {
        return Err(refuse(
            "is set while introspection_endpoint is http, where it is not shown: make that https, or remove this",
        ));
    }
    let chain = certificates(path).map_err(|why| refuse(&why.to_string()))?;
    let (key, others_may_read) =
        private_key(key_path).map_err(|why| refuse_key(&why.to_string()))?;
    if others_may_read {
        warnings.push(format!(
            "provider {:?}: ssl_certificate_key {key_path:?} can be read by every user of this machine; chmod o-r it",
            config.name
        ));
    }
    let pem = pem(&chain, &key);
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    match CertifiedKey::from_der(chain, key, &provider) {
        Ok(_) => Ok(Some(pem)),
        Err(rustls::Error::InconsistentKeys(_)) => Err(refuse_key(&format!(
            "is not the key of the first certificate in ssl_certificate {path:?}: name the two that belong together, \
             and let our own certificate be the first"
        ))),
        Err(rustls::Error::InvalidCertificate(error)) => Err(refuse(&format!(
            "holds a certificate that cannot be used ({error}): it must hold ours as PEM, then those between it and \
             its authority"
        ))),
        Err(error) => Err(refuse_key(&format!(
            "holds a key that cannot be used ({error}): it must be of RSA with 2048 bits or more, of ECDSA on P-256, \
             P-384 or P-521, or of Ed25519"
        ))),
    }
}

/// Whether any of these endpoints uses TLS.
pub(super) fn any_tls(endpoints: &[Endpoint]) -> bool {
    endpoints
        .iter()
        .any(|endpoint| endpoint.url.scheme() == "https")
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Invalid> {
    let (bytes, _) = read_file(path, MAX_CERTIFICATE_FILE)?;
    let chain = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| {
            Invalid::from(format!("holds a certificate that cannot be used ({error}): it must hold certificates as PEM"))
        })?;
    if chain.is_empty() {
        return Err(
            "holds no certificate: it must hold ours as PEM (-----BEGIN CERTIFICATE-----), then those between it and \
             its authority".into(),
        );
    }
    Ok(chain)
}

/// The only private key in a file, and whether every user may read it.
fn private_key(path: &Path) -> Result<(PrivateKeyDer<'static>, bool), Invalid> {
    let (bytes, others_may_read) = read_file(path, MAX_SECRET_FILE)?;
    // The marker is in the label (RFC 7468 §11) or in a header (RFC 1421 §4.6.1.1).
    if bytes.windows(9).any(|part| part == b"ENCRYPTED") {
        return Err(
            "is encrypted, and nobody is there to type its password: decrypt it with openssl pkey, and let nobody else \
             read the file".into(),
        );
    }
    let mut keys = PrivateKeyDer::pem_slice_iter(&bytes)
        .collect::<Result<Vec<_>, _>>()
        // The library's error may quote the input.
        .map_err(|_| "holds a private key that is not PEM: write it again")?;
    match (keys.pop(), keys.is_empty()) {
        (Some(key), true) => Ok((key, others_may_read)),
        (Some(_), false) => {
            Err("holds several private keys: leave the one that is for ssl_certificate".into())
        }
        (None, _) => Err(
            "holds no private key: it must hold one as PEM (-----BEGIN PRIVATE KEY-----)".into(),
        ),
    }
}

/// A certificate chain and its key as PEM (RFC 7468), without any other text of their files.
fn pem(chain: &[CertificateDer<'_>], key: &PrivateKeyDer<'_>) -> Zeroizing<Vec<u8>> {
    let key_label = match key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    };
    let blocks = || {
        chain
            .iter()
            .map(|certificate| ("CERTIFICATE", certificate.as_ref()))
            .chain([(key_label, key.secret_der())])
    };
    // Reserved in full: a growing buffer would leave parts of the key in memory.
    let capacity = blocks().map(|(_, der)| 128 + der.len() * 2).sum();
    let mut text = Zeroizing::new(String::with_capacity(capacity));
    for (label, der) in blocks() {
        text.push_str("-----BEGIN ");
        text.push_str(label);
        text.push_str("-----");
        for line in der.chunks(48) {
            text.push('\n');
            STANDARD.encode_string(line, &mut text);
        }
        text.push_str("\n-----END ");
        text.push_str(label);
        text.push_str("-----\n");
    }
    Zeroizing::new(std::mem::take(&mut *text).into_bytes())
}
