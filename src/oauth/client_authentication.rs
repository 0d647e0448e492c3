//! Client authentication: our identity at an authorization server, and how we prove it (RFC 6749 §2.3, RFC 7523, RFC
//! 8705, OpenID Connect Core 1.0 §9).
//!
//! # Which method
//!
//! The method that `client_auth` names. Without `client_auth`, the configured settings allow methods in this order. The
//! first one that the server lists is used (RFC 8414 §2); if the server lists none of them, or has no list, the first:
//!
//! | what is set | methods |
//! | --- | --- |
//! | `private_key` | `private_key_jwt` |
//! | `client_secret`, `client_secret_file` | `client_secret_basic`, `client_secret_post`, and `client_secret_jwt` if the secret is long enough for it |
//! | `bearer_token`, `bearer_token_file` | `bearer` |
//! | `ssl_certificate` | `tls_client_auth`, `self_signed_tls_client_auth`, after those of what else is set |
//! | nothing | `none` |
//!
//! Many servers list the authentication methods of their token endpoint but not those of introspection. The two hardly
//! ever differ, so the first list stands in for a missing second one.
//!
//! # Secrets that change
//!
//! The credential is behind a lock that is held for the time of cloning an `Arc`, once per call: calls in progress keep
//! the credential that they started with. Each credential has a number. So when many calls are refused at the same
//! time, one of them reads the file again, and the others see that it has been read. The resolver reads it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use http::header::AUTHORIZATION;
use parking_lot::RwLock;
use zeroize::Zeroizing;

use super::{ClientAuth, Endpoint, Request, Server};
use crate::jwt::{
    SecretAlgorithm, SigningError, SigningKey, client_assertion_claims, sign_with_secret,
};
use crate::secret::Secret;
use crate::{Error, ErrorKind};

/// The lifetime of an assertion: time for a slow call, and for clocks that differ a little.
const ASSERTION_LIFETIME: Duration = Duration::from_secs(60);
/// RFC 7523 §2.2.
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// The algorithm of `client_secret_jwt`: every server that supports the method supports this algorithm.
pub(crate) const SECRET_ALGORITHM: SecretAlgorithm = SecretAlgorithm::HS256;
/// The minimum time between two reads of a file, in milliseconds, however often the server refuses its secret.
const READ_AGAIN_AFTER: u64 = 10_000;

/// The credential that proves our identity.
pub(crate) enum ClientCredential {
    /// No credential, or a certificate, which TLS presents.
    Nothing,
    /// A client secret.
    Secret(Secret),
    /// A static bearer token.
    BearerToken(Secret),
    /// A private key.
    Key(Box<SigningKey>),
}

/// Our identity at one provider's authorization server, and the credential that proves it. No part of it is ever
/// printed.
pub(crate) struct ClientAuthenticator {
    /// The provider's name, for messages.
    pub provider: String,
    pub client_id: Option<String>,
    /// The configured method, if there is one.
    pub configured: Option<ClientAuth>,
    /// Whether TLS presents a certificate of ours.
    pub certificate: bool,
    /// The audience of an assertion, if it is configured.
    pub audience: Option<String>,
    /// The scope of our own access token.
    pub scope: Option<String>,
    pub proof: CurrentCredential,
}

/// The credential in use, and how to obtain another.
pub(crate) struct CurrentCredential {
    proof: RwLock<(Arc<ClientCredential>, u64)>,
    /// The time from which its file may be read again, on the monotonic clock.
    read_again_at: AtomicU64,
}

impl From<ClientCredential> for CurrentCredential {
    fn from(proof: ClientCredential) -> Self {
        CurrentCredential {
            proof: RwLock::new((Arc::new(proof), 0)),
            read_again_at: AtomicU64::new(0),
        }
    }
}

impl ClientAuthenticator {
    /// Our method at a server that supports the methods `supported`, or does not list them.
    pub fn method(&self, supported: Option<&[String]>) -> ClientAuth {
        self.configured.unwrap_or_else(|| self.pick(supported))
    }

    /// Our method at the introspection endpoint.
    pub fn method_at_introspection(&self, server: &Server) -> ClientAuth {
        let said = &server.introspection_auth_methods;
        self.method(said.as_deref().or(server.token_auth_methods.as_deref()))
    }

    /// Our method at the token endpoint. With `client_auth client_credentials`, the other settings determine it: the
    /// token that is obtained there does not authenticate us there.
    pub fn method_at_token_endpoint(&self, server: &Server) -> ClientAuth {
        let supported = server.token_auth_methods.as_deref();
        match self.configured {
            Some(ClientAuth::ClientCredentials) | None => self.pick(supported),
            Some(method) => method,
        }
    }

    fn pick(&self, supported: Option<&[String]>) -> ClientAuth {
        let (proof, _) = self.proof.get();
        let mut methods = match &*proof {
            ClientCredential::Key(_) => vec![ClientAuth::PrivateKeyJwt],
            ClientCredential::Secret(secret) => {
                let mut methods = vec![ClientAuth::ClientSecretBasic, ClientAuth::ClientSecretPost];
                if secret.expose().len() >= SECRET_ALGORITHM.shortest_secret() {
                    methods.push(ClientAuth::ClientSecretJwt);
                }
                methods
            }
            ClientCredential::BearerToken(_) => vec![ClientAuth::Bearer],
            ClientCredential::Nothing => Vec::new(),
        };
        if self.certificate && self.client_id.is_some() {
            methods.extend([
                ClientAuth::TlsClientAuth,
                ClientAuth::SelfSignedTlsClientAuth,
            ]);
        }
        let listed = |method: &ClientAuth| {
            supported.is_some_and(|names| names.iter().any(|name| name == method.as_str()))
        };
        let found = methods.iter().copied().find(listed);
        found
            .or(methods.first().copied())
            .unwrap_or(ClientAuth::None)
    }

    /// The warning for an operator when the server's metadata does not list our method.
    pub fn warn_if_unlisted(&self, server: &Server) -> Option<String> {
        let unlisted = |method: ClientAuth, names: &Option<Vec<String>>, member: &str| {
            let names = names.as_deref()?;
            if names.iter().any(|name| name == method.as_str()) {
                return None;
            }
            Some(format!(
                "provider {:?}: client_auth {} is none of those that the authorization server lists ({member}: {}); if \
                 it refuses us, set up one of them",
                self.provider,
                method.as_str(),
                shown(names)
            ))
        };
        let token = |method| {
            unlisted(
                method,
                &server.token_auth_methods,
                "token_endpoint_auth_methods_supported",
            )
        };
        match self.method_at_introspection(server) {
            // No server lists bearer tokens: they are access tokens to one more resource.
            ClientAuth::Bearer => None,
            ClientAuth::ClientCredentials => {
                let grants = server.grant_types.as_deref();
                if grants
                    .is_some_and(|names| !names.iter().any(|name| name == "client_credentials"))
                {
                    return Some(format!(
                        "provider {:?}: client_auth client_credentials needs the grant client_credentials, which the \
                         authorization server does not list (grant_types_supported); if it refuses us, let this \
                         client have that grant, or set another client_auth",
                        self.provider
                    ));
                }
                token(self.method_at_token_endpoint(server))
            }
            method => unlisted(
                method,
                &server.introspection_auth_methods,
                "introspection_endpoint_auth_methods_supported",
            ),
        }
    }

    /// Adds our credentials for `method` to a call to `endpoint`: a header, or parameters of the form. An assertion is
    /// made for this one call. It is valid once, for a minute, and for the server that is named `issuer`, or else for
    /// the endpoint. `now` is in seconds since the epoch.
    ///
    /// `client_credentials` adds nothing: [`ClientAuthenticator::bear`] adds the access token.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when the configured credential does not fit the method, or can't be used to sign.
    pub fn apply(
        &self,
        method: ClientAuth,
        endpoint: &Endpoint,
        issuer: Option<&str>,
        now: i64,
        request: &mut Request,
    ) -> Result<(), Error> {
        let (proof, _) = self.proof.get();
        let client_id = self.client_id.as_deref();
        match (method, &*proof, client_id) {
            (ClientAuth::ClientSecretBasic, ClientCredential::Secret(secret), Some(id)) => {
                let value = basic(id, secret);
                self.authorize(request, method, &value)
            }
            (ClientAuth::ClientSecretPost, ClientCredential::Secret(secret), Some(id)) => {
                request.add(&[("client_id", id), ("client_secret", secret.expose())]);
                Ok(())
            }
            (ClientAuth::ClientSecretJwt | ClientAuth::PrivateKeyJwt, proof, Some(id)) => {
                let audience = self
                    .audience
                    .as_deref()
                    .or(issuer)
                    .unwrap_or(endpoint.url.as_str());
                let assertion = assertion(method, proof, id, audience, now)
                    .map_err(|error| self.unusable(method, &error))?;
                request.add(&[
                    // Most servers read it from the assertion; some look for it before they read the assertion.
                    ("client_id", id),
                    ("client_assertion_type", ASSERTION_TYPE),
                    ("client_assertion", &assertion),
                ]);
                Ok(())
            }
            (ClientAuth::Bearer, ClientCredential::BearerToken(token), _) => {
                self.bear(method, token, request)
            }
            (
                ClientAuth::TlsClientAuth | ClientAuth::SelfSignedTlsClientAuth | ClientAuth::None,
                _,
                id,
            ) => {
                if let Some(id) = id {
                    request.add(&[("client_id", id)]);
                }
                Ok(())
            }
            (ClientAuth::ClientCredentials, ..) => Ok(()),
            _ => Err(self.unusable(method, &CredentialError::NotConfigured)),
        }
    }

    /// Adds an access token of ours to a call.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when no header can hold it.
    pub fn bear(
        &self,
        method: ClientAuth,
        token: &Secret,
        request: &mut Request,
    ) -> Result<(), Error> {
        const SCHEME: &str = "Bearer ";
        let token = token.expose();
        let mut value = Zeroizing::new(String::with_capacity(SCHEME.len() + token.len()));
        value.push_str(SCHEME);
        value.push_str(token);
        self.authorize(request, method, &value)
    }

    fn authorize(
        &self,
        request: &mut Request,
        method: ClientAuth,
        value: &str,
    ) -> Result<(), Error> {
        // Base64 and b64token fit in a header.
        let mut value = HeaderValue::from_str(value)
            .map_err(|_| self.unusable(method, &CredentialError::NoHeader))?;
        value.set_sensitive(true);
        request.headers.push((AUTHORIZATION, value));
        Ok(())
    }

    fn unusable(&self, method: ClientAuth, why: &CredentialError) -> Error {
        Error::new(
            ErrorKind::Internal,
            format!(
                "provider {:?}: client_auth {}: {why}",
                self.provider,
                method.as_str()
            ),
        )
    }

    /// The number of the credential in use. It changes with each [`ClientAuthenticator::replace`].
    pub fn number(&self) -> u64 {
        self.proof.get().1
    }

    /// Whether the file of the credential may be read again. `now` is in milliseconds on the monotonic clock.
    pub fn may_read_again(&self, now: u64) -> bool {
        self.proof.read_again_at.load(Ordering::Relaxed) <= now
    }

    /// Records that the file of the credential is being read.
    pub fn reading_again(&self, now: u64) {
        self.proof
            .read_again_at
            .store(now.saturating_add(READ_AGAIN_AFTER), Ordering::Relaxed);
    }

    /// Replaces the credential. Returns `false`, and changes nothing, if the new one is the one in use.
    pub fn replace(&self, credential: ClientCredential) -> bool {
        let changed = !credential.is(&self.proof.get().0);
        if changed {
            self.proof.replace(credential);
        }
        changed
    }
}

impl CurrentCredential {
    pub(crate) fn get(&self) -> (Arc<ClientCredential>, u64) {
        let (proof, number) = &*self.proof.read();
        (Arc::clone(proof), *number)
    }

    fn replace(&self, proof: ClientCredential) {
        let proof = Arc::new(proof);
        let before = {
            let mut current = self.proof.write();
            current.1 += 1;
            std::mem::replace(&mut current.0, proof)
        };
        // Wiped here, and not under the lock, unless a call still holds it.
        drop(before);
    }
}

impl ClientCredential {
    /// Whether it is the same as `other`. Both are ours: the duration of this comparison reveals nothing to others.
    fn is(&self, other: &ClientCredential) -> bool {
        match (self, other) {
            (ClientCredential::Nothing, ClientCredential::Nothing) => true,
            (ClientCredential::Secret(one), ClientCredential::Secret(other))
            | (ClientCredential::BearerToken(one), ClientCredential::BearerToken(other)) => {
                one.expose() == other.expose()
            }
            (ClientCredential::Key(one), ClientCredential::Key(other)) => {
                one.public_jwk() == other.public_jwk()
            }
            _ => false,
        }
    }
}

/// The value of `Authorization` (RFC 6749 §2.3.1).
fn basic(id: &str, secret: &Secret) -> Zeroizing<String> {
    const SCHEME: &str = "Basic ";
    let secret = secret.expose();
    // Reserved in full, since an encoded byte takes at most three: a buffer that grows leaves a copy behind.
    let mut pair = Zeroizing::new(String::with_capacity(3 * id.len() + 1 + 3 * secret.len()));
    // Each form-encoded first, so that a colon in them is not taken for the separator.
    pair.extend(form_urlencoded::byte_serialize(id.as_bytes()));
    pair.push(':');
    pair.extend(form_urlencoded::byte_serialize(secret.as_bytes()));
    let mut value = Zeroizing::new(String::with_capacity(
        SCHEME.len() + pair.len().div_ceil(3) * 4,
    ));
    value.push_str(SCHEME);
    STANDARD.encode_string(pair.as_bytes(), &mut value);
    value
}

/// The reason why a method of client authentication can't be used.
#[derive(Debug, thiserror::Error)]
enum CredentialError {
    #[error("what it needs is not configured")]
    NotConfigured,
    #[error("it makes no valid header")]
    NoHeader,
    #[error(transparent)]
    Signing(#[from] SigningError),
}

fn assertion(
    method: ClientAuth,
    proof: &ClientCredential,
    client_id: &str,
    audience: &str,
    now: i64,
) -> Result<Zeroizing<String>, CredentialError> {
    let claims = || client_assertion_claims(client_id, audience, now, ASSERTION_LIFETIME);
    let signed = match (method, proof) {
        (ClientAuth::PrivateKeyJwt, ClientCredential::Key(key)) => {
            claims().and_then(|claims| key.sign(Some("JWT"), &claims))
        }
        (ClientAuth::ClientSecretJwt, ClientCredential::Secret(secret)) => {
            claims().and_then(|claims| sign_with_secret(secret, SECRET_ALGORITHM, &claims))
        }
        _ => return Err(CredentialError::NotConfigured),
    };
    Ok(signed.map(Zeroizing::new)?)
}

/// Names from a server, for a line of a log: only as many as are useful, and nothing that could forge a line.
fn shown(names: &[String]) -> String {
    const MOST: usize = 12;
    let is_name = |name: &&String| {
        (1..=64).contains(&name.len())
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte))
    };
    let names: Vec<_> = names.iter().filter(is_name).take(MOST).cloned().collect();
    match names.as_slice() {
        [] => "none".to_owned(),
        names => names.join(", "),
    }
}

#[cfg(test)]
mod tests;
