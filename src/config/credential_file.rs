//! Files that hold our credential. They are read with the configuration, and again when the server refuses the
//! credential.

use std::fmt;
use std::path::PathBuf;

use super::build::{MAX_SECRET_FILE, read_file};
use super::rules::{self, Invalid, bearer_token};
use super::{Provider, Secret};
use crate::jwt::{Algorithm, SigningKey};
use crate::oauth::ClientCredential;

/// A file that holds our credential.
#[derive(Debug, Clone)]
pub(crate) struct CredentialFile {
    /// The key of the setting that names the file.
    pub key: &'static str,
    pub path: PathBuf,
    pub kind: CredentialKind,
}

/// The kind of credential in a file.
#[derive(Debug, Clone)]
pub(crate) enum CredentialKind {
    /// A client secret of at least this many bytes.
    ClientSecret { shortest: usize },
    /// A static bearer token.
    BearerToken,
    /// A private key, as PEM.
    PrivateKey {
        kid: Option<String>,
        algorithm: Option<Algorithm>,
    },
}

impl CredentialFile {
    /// Reads the credential, and whether every user may read the file. An error says why the file can't be used and how
    /// to fix it, and does not contain the content.
    pub fn read(&self) -> Result<(ClientCredential, bool), Invalid> {
        let (bytes, others_may_read) = read_file(&self.path, MAX_SECRET_FILE)?;
        let proof = match &self.kind {
            CredentialKind::ClientSecret { shortest } => {
                let check = |text| client_secret(text, *shortest);
                ClientCredential::Secret(secret(&bytes, check)?)
            }
            CredentialKind::BearerToken => {
                ClientCredential::BearerToken(secret(&bytes, bearer_token)?)
            }
            CredentialKind::PrivateKey { kid, algorithm } => {
                let usable =
                    |error| Invalid::from(format!("holds no key that can be used: {error}"));
                let mut key = SigningKey::from_pem(&bytes).map_err(usable)?;
                if let Some(algorithm) = algorithm {
                    key = key.with_algorithm(*algorithm).map_err(|error| {
                        format!("does not go with private_key_alg: {error}; remove that, or set it to one of these")
                    })?;
                }
                if let Some(kid) = kid {
                    key = key.with_kid(kid);
                }
                ClientCredential::Key(Box::new(key))
            }
        };
        Ok((proof, others_may_read))
    }
}

impl Provider {
    /// Whether the credential comes from a file, and the file may be read again. `now` is in milliseconds on the
    /// monotonic clock.
    pub(crate) fn may_read_credential_again(&self, now: u64) -> bool {
        self.credential_file.is_some() && self.credentials.may_read_again(now)
    }

    /// Reads the credential's file again, which may block. Returns whether the credential has changed; the new one is
    /// used from now on. An error says why the file can't be used and how to fix it.
    pub(crate) fn read_credential_again(&self, now: u64) -> Result<bool, Invalid> {
        let Some(file) = &self.credential_file else {
            return Ok(false);
        };
        self.credentials.reading_again(now);
        let (credential, _) = file.read()?;
        Ok(self.credentials.replace(credential))
    }
}

impl fmt::Display for CredentialFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.key, self.path)
    }
}

/// Checks a client secret. `shortest` is its minimum length in bytes where it is used as a key, else 0.
pub(super) fn client_secret(value: &str, shortest: usize) -> Result<&str, Invalid> {
    let value = rules::text(value)?;
    if value.len() < shortest {
        return Err(format!(
            "is shorter than the {shortest} bytes that client_auth client_secret_jwt needs (RFC 7518 §3.2): have the \
             authorization server give out a longer one, or set another client_auth"
        )
        .into());
    }
    Ok(value)
}

fn secret<'a>(
    bytes: &'a [u8],
    check: impl FnOnce(&'a str) -> Result<&'a str, Invalid>,
) -> Result<Secret, Invalid> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| "is not text: it must hold the secret alone, as UTF-8".to_owned())?;
    let text = strip_newline(text);
    if text.is_empty() {
        return Err("is empty: write the secret into it".into());
    }
    check(text)
        .map(Secret::new)
        .map_err(|why| format!("does not hold a secret: what is in it {why}").into())
}

fn strip_newline(text: &str) -> &str {
    match text.strip_suffix('\n') {
        Some(text) => text.strip_suffix('\r').unwrap_or(text),
        None => text,
    }
}
