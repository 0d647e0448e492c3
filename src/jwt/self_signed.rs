//! A JWT that contains the key that it is signed with (RFC 9449 §4.2).
//!
//! A valid signature proves that the author of the JWT has that key, but not whose key it is: the caller must know the
//! key by its thumbprint. Reading and verifying are two steps, so that the caller can check everything else before the
//! signature, which costs most. Nothing that was read may be relied on before [`SelfSigned::verify`] has succeeded.

use serde_json::{Map, Value};

use super::keys::VerifyingKey;
use super::sign::thumbprint;
use super::verify::is_signed;
use super::{Algorithm, Parts, decode, object, parts};

/// The reason why a self-signed JWT is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SelfSignedError {
    /// Not a JWT with unique names at every depth and a `jwk`, or one with extensions, of which we understand none.
    Malformed,
    /// Another `typ`, or none.
    Type,
    /// An `alg` that is none of [`Algorithm`].
    Algorithm,
    /// The `jwk` is not a public key, or none for its `alg`.
    Key,
    /// The signature is not that of the `jwk`.
    Signature,
}

/// A JWT that has been read.
pub(crate) struct SelfSigned<'a> {
    parts: Parts<'a>,
    signature: Vec<u8>,
    algorithm: Algorithm,
    jwk: Map<String, Value>,
    claims: Map<String, Value>,
}

impl<'a> SelfSigned<'a> {
    /// Reads a JWT in compact form with this `typ`, which is compared exactly.
    pub fn read(bytes: &'a [u8], typ: &str) -> Result<Self, SelfSignedError> {
        const MALFORMED: SelfSignedError = SelfSignedError::Malformed;
        let parts = parts(bytes).map_err(|_| MALFORMED)?;
        let [header, claims] =
            [parts.header, parts.payload].map(|part| object(&decode(part).ok()?).ok());
        let mut header = header.ok_or(MALFORMED)?;
        let claims = claims.ok_or(MALFORMED)?;
        let signature = decode(parts.signature).map_err(|_| MALFORMED)?;
        if header.get("typ").and_then(Value::as_str) != Some(typ) {
            return Err(SelfSignedError::Type);
        }
        let algorithm = header.get("alg").and_then(Value::as_str);
        let algorithm = algorithm
            .and_then(Algorithm::from_name)
            .ok_or(SelfSignedError::Algorithm)?;
        if header.contains_key("crit") || header.get("b64").is_some_and(|b64| b64 != true) {
            return Err(MALFORMED);
        }
        let Some(Value::Object(jwk)) = header.remove("jwk") else {
            return Err(SelfSignedError::Key);
        };
        Ok(SelfSigned {
            parts,
            signature,
            algorithm,
            jwk,
            claims,
        })
    }

    /// The claims of the JWT.
    pub fn claims(&self) -> &Map<String, Value> {
        &self.claims
    }

    /// The thumbprint of its key (RFC 7638).
    pub fn thumbprint(&self) -> Result<String, SelfSignedError> {
        let names: &[&str] = match self.jwk.get("kty").and_then(Value::as_str) {
            Some("EC") => &["crv", "kty", "x", "y"],
            Some("OKP") => &["crv", "kty", "x"],
            Some("RSA") => &["e", "kty", "n"],
            _ => return Err(SelfSignedError::Key),
        };
        let required: Option<Map<_, _>> = names
            .iter()
            .map(|&name| {
                let value = self.jwk.get(name).filter(|value| value.is_string())?;
                Some((name.to_owned(), value.clone()))
            })
            .collect();
        required
            .map(|required| thumbprint(&required))
            .ok_or(SelfSignedError::Key)
    }

    /// Whether it is signed with its key.
    pub fn verify(self) -> Result<(), SelfSignedError> {
        let key = VerifyingKey::read(Value::Object(self.jwk)).map_err(|_| SelfSignedError::Key)?;
        if !key.takes(self.algorithm) {
            return Err(SelfSignedError::Key);
        }
        if is_signed(&self.parts, &self.signature, self.algorithm, &key) {
            Ok(())
        } else {
            Err(SelfSignedError::Signature)
        }
    }
}
