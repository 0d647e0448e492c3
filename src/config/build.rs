//! Builds a provider from a configuration: checks the settings against each other, and reads the files.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use zeroize::Zeroizing;

use super::credential_file::{self, CredentialFile, CredentialKind};
use super::rules::Invalid;
use super::settings::{self, Setting};
use super::url::{Issuer, is_loopback};
use super::{
    CONNECT_TIMEOUT, ClientAuth, Config, ConfigError, Dialect, JwtAcquisition, Provider, transport,
};
use crate::oauth::{ClientAuthenticator, ClientCredential, Endpoint, SECRET_ALGORITHM, Server};
use crate::token::{Fingerprint, Keys};

/// The largest secret file that is read, in bytes.
pub(super) const MAX_SECRET_FILE: usize = 64 << 10;
/// The largest certificate file that is read, in bytes. The bundle of a whole system takes 0.2 MiB.
pub(super) const MAX_CERTIFICATE_FILE: usize = 16 << 20;

/// The claims that are searched for the JWT if `jwt_claim` is not set: Keycloak's name, then Curity's.
const JWT_CLAIMS: [&str; 2] = ["jwt", "phantom_token"];

/// Builds a provider. `config` has passed [`settings::check`].
pub(super) fn build(config: &Config) -> Result<Provider, ConfigError> {
    let mut warnings = Vec::new();
    let server = server(config)?;
    let acquisition = JwtAcquisition::read(config, &server, &mut warnings)?;
    let endpoints = server.all();
    let (credentials, credential_file) = credentials(config, &mut warnings)?;
    let method = credentials.method(None);
    let proxy = transport::forward_proxy(config, &endpoints, &mut warnings)?;
    let tls = transport::any_tls(&endpoints) || proxy.as_ref().is_some_and(|proxy| proxy.tls);
    let trusted_certificates = trusted_certificates(config, tls)?;
    let client_certificate = transport::client_certificate(config, &endpoints, &mut warnings)?;
    let ssl_name = transport::ssl_name(config, &endpoints)?;
    let connect_timeout = connect_timeout(config)?;
    let jwt_claims = config
        .jwt_claim
        .clone()
        .unwrap_or_else(|| JWT_CLAIMS.map(String::from).to_vec());

    let mut warn = |text: &str| warnings.push(format!("provider {:?}: {text}", config.name));
    let in_clear = endpoints
        .iter()
        .find(|endpoint| endpoint.url.scheme() == "http" && !is_loopback(&endpoint.url));
    if let Some(endpoint) = in_clear {
        warn(&format!(
            "{} is http on another host: access tokens, JWTs and our credentials travel in clear; use https",
            endpoint.purpose.key()
        ));
    }
    if tls && !config.ssl_verify {
        warn(
            "ssl_verify is off: whoever is between us and the authorization server can read and forge every \
             answer; set ssl_trusted_certificate instead",
        );
        if trusted_certificates.is_some() {
            warn("ssl_trusted_certificate is of no use while ssl_verify is off");
        }
    }
    if method == ClientAuth::Bearer
        && config.client_id.is_some()
        && config.dialect != Dialect::Signed
    {
        warn("client_id is not sent with client_auth bearer; leave it out");
    }
    if config.jwt_claim.is_some() && !matches!(config.dialect, Dialect::Json | Dialect::Auto) {
        warn(&format!(
            "jwt_claim is of no use with dialect {}; set dialect json or auto, or leave it out",
            config.dialect.as_str()
        ));
    }
    if config.dialect == Dialect::Exchange
        && !config.introspection_endpoint.is_empty()
        && config.exchange_introspect == Some(false)
    {
        warn(
            "introspection_endpoint is of no use with exchange_introspect off; leave one of them out",
        );
    }

    let way = transport::Way {
        ssl_verify: config.ssl_verify,
        trusted_certificates: trusted_certificates.as_deref(),
        ssl_name: ssl_name.as_deref(),
        proxy: proxy.as_ref(),
        client_certificate: client_certificate.as_deref().map(Vec::as_slice),
    };
    let fingerprint = fingerprint(
        config,
        &server,
        &credentials,
        &way,
        &acquisition,
        &jwt_claims,
    );
    Ok(Provider {
        fingerprint,
        keys: Keys::of(&fingerprint),
        name: config.name.clone(),
        credentials,
        credential_file,
        server,
        dialect: config.dialect,
        jwt_claims,
        acquisition,
        timeout: config.timeout,
        connect_timeout,
        retries: config.retries,
        max_concurrent: config.max_concurrent,
        max_waiting: config.max_waiting,
        max_response_size: config.max_response_size,
        cache_size: config.cache_size,
        cache_entries: config.cache_entries,
        cache_ttl: config.cache_ttl,
        cache_inactive_ttl: config.cache_inactive_ttl,
        cache_control: config.cache_control,
        refresh_ahead: config.refresh_ahead,
        stale_if_error: config.stale_if_error,
        max_fails: config.max_fails,
        fail_timeout: config.fail_timeout,
        trusted_certificates,
        ssl_verify: config.ssl_verify,
        client_certificate,
        ssl_name,
        ssl_protocols: config.ssl_protocols,
        proxy,
        warnings,
    })
}

/// The configured authorization server.
fn server(config: &Config) -> Result<Server, ConfigError> {
    let refuse = |key: &str, refusal: &str| config.refuse(key, "", refusal);
    let introspection = match config.introspection_endpoint.as_slice() {
        [] if config.host_endpoint.is_some() => {
            refuse_unhosted(config)?;
            let host = config.host_endpoint.clone().map(Arc::new);
            host.and_then(Endpoint::of_host).into_iter().collect()
        }
        [] if config.issuer.is_some() => Vec::new(),
        [] if config.dialect == Dialect::Exchange => {
            if config.token_endpoint.is_none() {
                return Err(refuse(
                    "token_endpoint",
                    "is missing: set it to the URL of the authorization server's token endpoint, where tokens are \
                     exchanged, such as https://as.example.com/token, or set issuer, if the server publishes its \
                     metadata",
                ));
            }
            if config.exchange_introspect != Some(false) {
                return Err(refuse(
                    "introspection_endpoint",
                    "is missing: dialect exchange introspects a token first, because an exchange does not tell whether it \
                     is bound to a key of its sender; set it, or issuer, or exchange_introspect off if this server binds \
                     no tokens (DPoP, mutual TLS)",
                ));
            }
            Vec::new()
        }
        [] => {
            return Err(refuse(
                "introspection_endpoint",
                "is missing: set it to the URL of the authorization server's introspection endpoint, such as \
                 https://as.example.com/introspect, or set issuer, if the server publishes its metadata",
            ));
        }
        endpoints => endpoints.to_vec(),
    };
    Ok(Server {
        issuer: config
            .issuer
            .as_ref()
            .map(|issuer| issuer.as_str().to_owned()),
        introspection,
        token: config.token_endpoint.clone(),
        jwks: config.jwks_uri.clone(),
        ..Server::default()
    })
}

/// Where the host makes the calls: refuses settings about the content of our own calls, and a dialect that needs calls
/// to other endpoints.
fn refuse_unhosted(config: &Config) -> Result<(), ConfigError> {
    let dialect = matches!(
        config.dialect,
        Dialect::Auto | Dialect::Jwt | Dialect::Json | Dialect::Mint
    );
    let set = settings::TABLE
        .iter()
        .filter(|setting| setting.own_calls)
        .find(|setting| setting.is_set(config))
        .map(Setting::name)
        .or((!dialect).then_some("dialect"));
    match set {
        None => Ok(()),
        Some(key) => Err(config.refuse(
            key,
            "",
            "is set, but the calls to the authorization server are the host's to make: remove it, or set \
             introspection_endpoint",
        )),
    }
}

fn connect_timeout(config: &Config) -> Result<std::time::Duration, ConfigError> {
    if config.connect_timeout > config.timeout && config.connect_timeout != CONNECT_TIMEOUT {
        return Err(config.refuse(
            "connect_timeout",
            &format!("{:?}", config.connect_timeout),
            &format!(
                "is longer than timeout ({:?}), which covers connecting too: shorten it, or raise timeout",
                config.timeout
            ),
        ));
    }
    Ok(config.connect_timeout.min(config.timeout))
}

/// The client authentication and its credential. A credential that is set and would not be used is an error.
fn credentials(
    config: &Config,
    warnings: &mut Vec<String>,
) -> Result<(ClientAuthenticator, Option<CredentialFile>), ConfigError> {
    let configured = method(config)?;
    let shortest = match configured {
        Some(ClientAuth::ClientSecretJwt) => SECRET_ALGORITHM.shortest_secret(),
        _ => 0,
    };
    // At most one of these is set at this point.
    let client_secret = config
        .client_secret_file
        .as_ref()
        .map(|path| CredentialFile {
            key: "client_secret_file",
            path: path.clone(),
            kind: CredentialKind::ClientSecret { shortest },
        });
    let bearer_token = config
        .bearer_token_file
        .as_ref()
        .map(|path| CredentialFile {
            key: "bearer_token_file",
            path: path.clone(),
            kind: CredentialKind::BearerToken,
        });
    let private_key = config.private_key.as_ref().map(|path| CredentialFile {
        key: "private_key",
        path: path.clone(),
        kind: CredentialKind::PrivateKey {
            kid: config.private_key_id.clone(),
            algorithm: config.private_key_alg,
        },
    });
    let file = client_secret.or(bearer_token).or(private_key);
    let proof = match (&file, &config.client_secret, &config.bearer_token) {
        (Some(file), ..) => read_credential(config, file, warnings)?,
        (None, Some(secret), _) => {
            credential_file::client_secret(secret.expose(), shortest)
                .map_err(|why| config.refuse("client_secret", "", &why.to_string()))?;
            ClientCredential::Secret(secret.clone())
        }
        (None, None, Some(token)) => ClientCredential::BearerToken(token.clone()),
        (None, None, None) => ClientCredential::Nothing,
    };
    let credentials = ClientAuthenticator {
        provider: config.name.clone(),
        client_id: config.client_id.clone(),
        configured,
        certificate: config.ssl_certificate.is_some(),
        audience: config.assertion_audience.clone(),
        scope: config.client_credentials_scope.clone(),
        proof: proof.into(),
    };
    Ok((credentials, file))
}

/// Reads a credential from its file.
fn read_credential(
    config: &Config,
    file: &CredentialFile,
    warnings: &mut Vec<String>,
) -> Result<ClientCredential, ConfigError> {
    let (proof, others_may_read) = file
        .read()
        .map_err(|why| config.refuse(file.key, &format!("{:?}", file.path), &why.to_string()))?;
    if others_may_read {
        warnings.push(format!(
            "provider {:?}: {file} can be read by every user of this machine; chmod o-r it",
            config.name
        ));
    }
    Ok(proof)
}

/// The client authentication method, unless the authorization server's metadata may choose it.
fn method(config: &Config) -> Result<Option<ClientAuth>, ConfigError> {
    let refuse = |key: &str, refusal: &str| config.refuse(key, "", refusal);
    let both = |one: &str, other: &str, mend: &str| {
        refuse(one, &format!("and {other} are both set: remove {mend}"))
    };
    let either = |inline: Option<&'static str>, file: Option<&'static str>| match (inline, file) {
        (Some(inline), Some(file)) => Err(both(inline, file, "one of the two")),
        (one, other) => Ok(one.or(other)),
    };
    let present = |key: &'static str, there: bool| there.then_some(key);
    let secret = either(
        present("client_secret", config.client_secret.is_some()),
        present("client_secret_file", config.client_secret_file.is_some()),
    )?;
    let bearer = either(
        present("bearer_token", config.bearer_token.is_some()),
        present("bearer_token_file", config.bearer_token_file.is_some()),
    )?;
    let key = present("private_key", config.private_key.is_some());
    let id = config.client_id.is_some();
    let certificate = config.ssl_certificate.is_some();

    let set: Vec<_> = [secret, bearer, key].into_iter().flatten().collect();
    let not_for_this_server = "the one that is not for this authorization server";
    let method = match config.client_auth {
        Some(method) => method,
        None if set.len() > 1 => return Err(both(set[0], set[1], not_for_this_server)),
        None if secret.is_some() => ClientAuth::ClientSecretBasic,
        None if key.is_some() => ClientAuth::PrivateKeyJwt,
        None if bearer.is_some() => ClientAuth::Bearer,
        None if id && certificate => ClientAuth::TlsClientAuth,
        // A `client_id` without a secret is more likely a mistake than a public client.
        None if id => {
            return Err(refuse(
                "client_secret or client_secret_file",
                "is missing: client_id is set; if this client has no secret, set client_auth none",
            ));
        }
        None => ClientAuth::None,
    };
    let name = method.as_str();
    let is_secret = matches!(
        method,
        ClientAuth::ClientSecretBasic | ClientAuth::ClientSecretPost | ClientAuth::ClientSecretJwt
    );
    let is_grant = method == ClientAuth::ClientCredentials;
    for (key, used) in [
        (secret, is_secret || is_grant),
        (bearer, method == ClientAuth::Bearer),
        (key, method == ClientAuth::PrivateKeyJwt || is_grant),
    ] {
        if let Some(key) = key
            && !used
        {
            return Err(refuse(
                key,
                &format!("is set but not used with client_auth {name}: remove one of the two"),
            ));
        }
    }
    if set.len() > 1 {
        return Err(both(set[0], set[1], not_for_this_server));
    }
    let needed = match method {
        ClientAuth::Bearer => bearer
            .is_none()
            .then_some("bearer_token or bearer_token_file"),
        ClientAuth::None => None,
        _ if !id => Some("client_id"),
        _ if is_secret => secret
            .is_none()
            .then_some("client_secret or client_secret_file"),
        ClientAuth::PrivateKeyJwt => key.is_none().then_some("private_key"),
        ClientAuth::TlsClientAuth | ClientAuth::SelfSignedTlsClientAuth => {
            (!certificate).then_some("ssl_certificate")
        }
        ClientAuth::ClientCredentials if set.is_empty() && !certificate => {
            Some("client_secret, client_secret_file, private_key or ssl_certificate")
        }
        ClientAuth::ClientCredentials => {
            let known = config.token_endpoint.is_some() || config.issuer.is_some();
            (!known).then_some("token_endpoint or issuer")
        }
        _ => None,
    };
    if let Some(needed) = needed {
        return Err(refuse(
            needed,
            &format!("is missing: client_auth {name} needs it"),
        ));
    }
    for (option, there) in [
        ("private_key_id", config.private_key_id.is_some()),
        ("private_key_alg", config.private_key_alg.is_some()),
    ] {
        if there && key.is_none() {
            return Err(refuse(
                option,
                "is set, but there is no private_key: set that, or remove this",
            ));
        }
    }
    let asserts = match config.client_auth {
        Some(ClientAuth::ClientSecretJwt | ClientAuth::PrivateKeyJwt) => true,
        // As the authorization server's metadata has it.
        Some(ClientAuth::ClientCredentials) | None => secret.is_some() || key.is_some(),
        Some(_) => false,
    };
    if config.assertion_audience.is_some() && !asserts {
        return Err(refuse(
            "assertion_audience",
            &format!(
                "is set but not used with client_auth {name}: remove it, or set client_auth private_key_jwt or \
                 client_secret_jwt"
            ),
        ));
    }
    if config.client_credentials_scope.is_some() && !is_grant {
        return Err(refuse(
            "client_credentials_scope",
            &format!(
                "is set but not used with client_auth {name}: remove it, or set client_auth client_credentials"
            ),
        ));
    }
    Ok(config.client_auth)
}

/// The bytes of a file, and whether every user may read the file.
pub(super) fn read_file(path: &Path, limit: usize) -> Result<(Zeroizing<Vec<u8>>, bool), Invalid> {
    let unreadable = |error: std::io::Error| Invalid::from(format!("cannot be read: {error}"));
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    // One byte more than allowed, reserved in full: a growing buffer would leave copies of a secret in memory.
    let expected = usize::try_from(metadata.len()).unwrap_or(limit);
    let capacity = if metadata.is_file() { expected } else { limit };
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity.min(limit) + 1));
    file.take(limit as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() > limit {
        return Err(format!("is larger than {limit} bytes: name the right file").into());
    }
    Ok((bytes, metadata.is_file() && metadata.mode() & 0o004 != 0))
}

fn trusted_certificates(config: &Config, tls: bool) -> Result<Option<Vec<u8>>, ConfigError> {
    let Some(path) = config.ssl_trusted_certificate.as_deref() else {
        return Ok(None);
    };
    let refuse =
        |refusal: &str| config.refuse("ssl_trusted_certificate", &format!("{path:?}"), refusal);
    if !tls {
        return Err(refuse(
            "is set while introspection_endpoint is http, where nothing is verified: make that https, or remove this",
        ));
    }
    let (bytes, _) =
        read_file(path, MAX_CERTIFICATE_FILE).map_err(|why| refuse(&why.to_string()))?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        certificate
            .map_err(|error| error.to_string())
            .and_then(|certificate| roots.add(certificate).map_err(|error| error.to_string()))
            .map_err(|error| {
                refuse(&format!(
                    "holds a certificate that cannot be used ({error}): it must hold certificates of authorities as PEM"
                ))
            })?;
    }
    if roots.is_empty() {
        return Err(refuse(
            "holds no certificate: it must hold certificates of authorities as PEM (-----BEGIN CERTIFICATE-----)",
        ));
    }
    Ok(Some(bytes.to_vec()))
}

/// The fingerprint covers all settings that can change an answer or its origin: the server, our identity at it, the way
/// to it, the trust in it, and how its answers are read. The table of settings gives the reason for each setting that
/// is left out.
///
/// A credential that is our only identity is included as a digest: a static bearer token, and a certificate where no
/// client identifier precedes it. Of a file, the current content counts. So after a rotation the cache starts empty at
/// the next reload, and likewise when the file gets the token of another party.
fn fingerprint(
    config: &Config,
    server: &Server,
    credentials: &ClientAuthenticator,
    way: &transport::Way<'_>,
    acquisition: &JwtAcquisition,
    jwt_claims: &[String],
) -> Fingerprint {
    let mut description = Vec::new();
    let mut add = |part: &str| {
        // The length comes first, so that no two lists of parts are written the same.
        description.extend_from_slice(&(part.len() as u64).to_be_bytes());
        description.extend_from_slice(part.as_bytes());
    };
    add("phantom-token provider 4");
    // The order does not matter: the authorization server is the same at any of its addresses. The number of endpoints
    // comes first, so that another endpoint can't be taken for the next part.
    let mut endpoints: Vec<_> = server
        .introspection
        .iter()
        .map(Endpoint::identity)
        .collect();
    endpoints.sort_unstable();
    add(&endpoints.len().to_string());
    for endpoint in &endpoints {
        add(endpoint);
    }
    // The issuer is responsible for the endpoint that its metadata names.
    add(config.issuer.as_ref().map_or("", Issuer::as_str));
    add(if config.client_id.is_some() { "1" } else { "0" });
    add(config.client_id.as_deref().unwrap_or_default());
    let method = credentials.method(None);
    add(method.as_str());
    if let ClientCredential::BearerToken(token) = &*credentials.proof.get().0 {
        add("bearer");
        add(&digest(
            b"phantom-token bearer token 1",
            token.expose().as_bytes(),
        ));
    }
    // With other methods the credential may be renewed: the client identifier is our identity.
    if matches!(method, ClientAuth::None | ClientAuth::Bearer)
        && let Some(certificate) = way.client_certificate.and_then(first_certificate)
    {
        add("certificate");
        add(&digest(b"", &certificate));
    }
    if method == ClientAuth::ClientCredentials {
        add("token");
        add(&server
            .token
            .as_ref()
            .map(Endpoint::identity)
            .unwrap_or_default());
    }
    // The scope of our own access token may change the server's answers about other tokens.
    if let Some(scope) = &config.client_credentials_scope {
        add("scope");
        add(scope);
    }
    for part in way.identity() {
        add(&part);
    }
    add(config.dialect.as_str());
    let acquisition = acquisition.identity(config.dialect, server);
    add(&acquisition.len().to_string());
    for part in &acquisition {
        add(part);
    }
    for claim in jwt_claims {
        add(claim);
    }
    Fingerprint::of(&description)
}

fn first_certificate(pem: &[u8]) -> Option<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem).next()?.ok()
}

/// A digest that identifies these bytes and does not reveal them. The label separates it from digests for other
/// purposes.
pub(super) fn digest(label: &[u8], bytes: &[u8]) -> String {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(label);
    context.update(&[0]);
    context.update(bytes);
    STANDARD.encode(context.finish())
}
