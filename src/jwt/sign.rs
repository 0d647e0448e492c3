//! Signing JWTs with our own key, and publishing the public keys that verify them.
//!
//! A key comes from a PEM file in any of the usual forms. An error about a key includes the command that fixes it,
//! since an operator reads it. The private part never leaves this file in any form: it is wiped with the
//! [`SigningKey`], and neither `Debug` nor an error shows it.

use std::fmt;

use aws_lc_rs::digest;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, RsaKeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::EncodingKey;
use jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;
use jsonwebtoken::jwk::EllipticCurve;
use pkcs8::{ObjectIdentifier, PrivateKeyInfoRef};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Map, Value, json};
use strum::IntoStaticStr;
use zeroize::Zeroize;

use super::Algorithm;
use super::keys::KeyType;
use crate::secret::Secret;

/// The reason why a key can't be used, or a signature can't be made, with the fix. Shows nothing of the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SigningError(String);

impl SigningError {
    pub(super) fn new(what: impl Into<String>) -> Self {
        SigningError(what.into())
    }
}

/// A private key with which JWTs are signed. Wiped when dropped.
#[derive(Clone)]
pub struct SigningKey {
    key: EncodingKey,
    algorithm: Algorithm,
    /// The members that identify the public key: those that RFC 7638 §3.2 requires, and no other.
    public: Map<String, Value>,
    kid: Box<str>,
}

impl SigningKey {
    /// Reads the one private key of a PEM file: PKCS#8 (`PRIVATE KEY`), SEC1 (`EC PRIVATE KEY`) or PKCS#1 (`RSA PRIVATE
    /// KEY`), not encrypted. P-256 signs with ES256, P-384 with ES384, Ed25519 with EdDSA, RSA with RS256. Its `kid`
    /// is its thumbprint (RFC 7638).
    ///
    /// # Errors
    /// [`SigningError`] when there is no key in it that can be used, or more than one.
    pub fn from_pem(pem: &[u8]) -> Result<Self, SigningError> {
        let mut keys = PrivateKeyDer::pem_slice_iter(pem);
        let (Some(key), another) = (keys.next(), keys.next()) else {
            return Err(SigningError::new(no_key_in(pem)));
        };
        let mut key = key.map_err(|_| SigningError::new(no_key_in(pem)))?;
        if let Some(another) = another {
            if let Ok(mut another) = another {
                another.zeroize();
            }
            key.zeroize();
            return Err(SigningError::new(
                "the file has more than one private key; put each into a file of its own",
            ));
        }
        let read = Self::from_der(&key);
        key.zeroize();
        read
    }

    /// Generates a P-256 key, for tests and for callers that store no key.
    ///
    /// # Errors
    /// [`SigningError`] when the system has no random bytes to give.
    pub fn generate() -> Result<Self, SigningError> {
        let random = |_| SigningError::new(NO_RANDOM_BYTES);
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(random)?;
        Self::from_ec(&pair, Algorithm::ES256)
    }

    fn from_der(key: &PrivateKeyDer<'_>) -> Result<Self, SigningError> {
        /// RFC 8017, RFC 5480, RFC 8410.
        const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
        const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
        const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

        let damaged = |_| SigningError::new("the private key is damaged: its DER can't be read");
        match key {
            PrivateKeyDer::Pkcs1(der) => Self::from_rsa(der.secret_pkcs1_der()),
            PrivateKeyDer::Sec1(der) => Self::from_any_ec(der.secret_sec1_der()),
            PrivateKeyDer::Pkcs8(der) => {
                let der = der.secret_pkcs8_der();
                let info = PrivateKeyInfoRef::try_from(der).map_err(damaged)?;
                match info.algorithm.oid {
                    RSA => Self::from_rsa(info.private_key.as_bytes()),
                    EC => Self::from_any_ec(der),
                    ED25519 => Self::from_ed25519(der),
                    _ => Err(SigningError::new(UNKNOWN_KIND)),
                }
            }
            _ => Err(SigningError::new(UNKNOWN_KIND)),
        }
    }

    /// Reads a key from the DER of RFC 8017 §A.1.2.
    fn from_rsa(der: &[u8]) -> Result<Self, SigningError> {
        let pair = RsaKeyPair::from_der(der).map_err(|_| {
            SigningError::new(
                "the RSA key can't be used: it is damaged, or has less than 2048 bits or more than 8192; make one \
                 with: openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:3072 -out key.pem",
            )
        })?;
        // A modulus as long as this has 2048 bits: its highest one is set.
        if pair.public_modulus_len() < 2048 / 8 {
            return Err(SigningError::new(
                "the RSA key has less than 2048 bits (RFC 7518 §3.3); make one with: openssl genpkey -algorithm RSA \
                 -pkeyopt rsa_keygen_bits:3072 -out key.pem",
            ));
        }
        let (n, e) = (DEFAULT_PROVIDER
            .key_utils
            .rsa_pub_components_from_private_key)(der)
        .map_err(|_| SigningError::new("the RSA key has no public part that can be read"))?;
        let public = json!({"kty": "RSA", "n": encode(&n), "e": encode(&e)});
        Ok(Self::new(
            EncodingKey::from_rsa_der(der),
            Algorithm::RS256,
            public,
        ))
    }

    /// Reads a key of either curve, from the DER of PKCS#8 or of SEC1 (RFC 5915).
    fn from_any_ec(der: &[u8]) -> Result<Self, SigningError> {
        const CURVES: [(&EcdsaSigningAlgorithm, Algorithm); 2] = [
            (&ECDSA_P256_SHA256_FIXED_SIGNING, Algorithm::ES256),
            (&ECDSA_P384_SHA384_FIXED_SIGNING, Algorithm::ES384),
        ];
        for (curve, algorithm) in CURVES {
            if let Ok(pair) = EcdsaKeyPair::from_private_key_der(curve, der) {
                return Self::from_ec(&pair, algorithm);
            }
        }
        Err(SigningError::new(
            "the EC key can't be used: it is damaged, or its curve is neither P-256 nor P-384; make one with: openssl \
             genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem",
        ))
    }

    fn from_ec(pair: &EcdsaKeyPair, algorithm: Algorithm) -> Result<Self, SigningError> {
        let unreadable = "the EC key has no public part that can be read";
        // The only form that the library can sign with.
        let der = pair
            .to_pkcs8v1()
            .map_err(|_| SigningError::new(unreadable))?;
        let (curve, x, y) =
            (DEFAULT_PROVIDER
                .key_utils
                .ec_pub_components_from_private_key)(der.as_ref(), algorithm.native())
            .map_err(|_| SigningError::new(unreadable))?;
        let crv = match curve {
            EllipticCurve::P384 => "P-384",
            _ => "P-256",
        };
        let public = json!({"kty": "EC", "crv": crv, "x": encode(&x), "y": encode(&y)});
        Ok(Self::new(
            EncodingKey::from_ec_der(der.as_ref()),
            algorithm,
            public,
        ))
    }

    fn from_ed25519(der: &[u8]) -> Result<Self, SigningError> {
        let x = (DEFAULT_PROVIDER.key_utils.ed_pub_components_from_private_key)(
            der,
            &EllipticCurve::Ed25519,
        )
        .map_err(|_| {
            SigningError::new(
                "the Ed25519 key is damaged; make one with: openssl genpkey -algorithm ED25519 -out key.pem",
            )
        })?;
        let public = json!({"kty": "OKP", "crv": "Ed25519", "x": encode(&x)});
        Ok(Self::new(
            EncodingKey::from_ed_der(der),
            Algorithm::EdDSA,
            public,
        ))
    }

    fn new(key: EncodingKey, algorithm: Algorithm, public: Value) -> Self {
        let public = match public {
            Value::Object(public) => public,
            _ => Map::new(),
        };
        SigningKey {
            key,
            algorithm,
            kid: thumbprint(&public).into(),
            public,
        }
    }

    /// The same key under another `kid`.
    #[must_use]
    pub fn with_kid(mut self, kid: &str) -> Self {
        self.kid = kid.into();
        self
    }

    /// The same key with another signature algorithm. An RSA key supports six, any other key only its own.
    ///
    /// # Errors
    /// [`SigningError`] when the algorithm takes another type of key.
    pub fn with_algorithm(mut self, algorithm: Algorithm) -> Result<Self, SigningError> {
        if algorithm.kind() != self.algorithm.kind() {
            let kind = match self.algorithm.kind() {
                KeyType::P256 => "a P-256 key, which signs with ES256",
                KeyType::P384 => "a P-384 key, which signs with ES384",
                KeyType::Ed25519 => "an Ed25519 key, which signs with EdDSA",
                KeyType::Rsa => {
                    "an RSA key, which signs with RS256, RS384, RS512, PS256, PS384 or PS512"
                }
            };
            return Err(SigningError::new(format!(
                "{algorithm} can't be used with {kind}"
            )));
        }
        self.algorithm = algorithm;
        Ok(self)
    }

    /// The algorithm that it signs with.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The `kid` in the header of its JWTs.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The public key as a JWK (RFC 7517), with `kid`, `alg` and `use`.
    pub fn public_jwk(&self) -> Value {
        let mut jwk = self.public.clone();
        for (name, value) in [
            ("kid", &*self.kid),
            ("alg", self.algorithm.as_str()),
            ("use", "sig"),
        ] {
            jwk.insert(name.to_owned(), value.into());
        }
        Value::Object(jwk)
    }

    /// Signs claims: a JWT in compact form, with `alg`, `kid` and, where it is given, `typ` in its header.
    ///
    /// # Errors
    /// [`SigningError`] when the library can't sign.
    pub fn sign(
        &self,
        typ: Option<&str>,
        claims: &Map<String, Value>,
    ) -> Result<String, SigningError> {
        let mut header = json!({"alg": self.algorithm.as_str(), "kid": &*self.kid});
        if let Some(typ) = typ {
            header["typ"] = typ.into();
        }
        signed(&self.key, self.algorithm.native(), &header, claims)
    }

    /// Signs two parts of any bytes.
    #[cfg(test)]
    pub(crate) fn sign_parts(&self, header: &[u8], payload: &[u8]) -> String {
        let message = format!("{}.{}", encode(header), encode(payload));
        with_signature(&self.key, self.algorithm.native(), message).unwrap()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey")
            .field("kid", &self.kid)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// The JWKS (RFC 7517 §5) with which others verify signatures of these keys.
pub fn jwks(keys: &[SigningKey]) -> String {
    let keys: Vec<_> = keys.iter().map(SigningKey::public_jwk).collect();
    json!({"keys": keys}).to_string()
}

/// The HMAC algorithms of client secrets (RFC 7518 §3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr)]
#[non_exhaustive]
pub enum SecretAlgorithm {
    /// HMAC with SHA-256.
    HS256,
    /// HMAC with SHA-384.
    HS384,
    /// HMAC with SHA-512.
    HS512,
}

impl SecretAlgorithm {
    /// The name in a header's `alg`.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The minimum length of the secret in bytes: the length of the hash (RFC 7518 §3.2).
    pub fn shortest_secret(self) -> usize {
        match self {
            SecretAlgorithm::HS256 => 32,
            SecretAlgorithm::HS384 => 48,
            SecretAlgorithm::HS512 => 64,
        }
    }

    fn native(self) -> jsonwebtoken::Algorithm {
        match self {
            SecretAlgorithm::HS256 => jsonwebtoken::Algorithm::HS256,
            SecretAlgorithm::HS384 => jsonwebtoken::Algorithm::HS384,
            SecretAlgorithm::HS512 => jsonwebtoken::Algorithm::HS512,
        }
    }
}

/// Signs claims with a shared secret, for `client_secret_jwt` (OpenID Connect Core §9). Shared secrets are never used
/// to verify.
///
/// # Errors
/// [`SigningError`] when the secret is shorter than RFC 7518 §3.2 allows: anybody who sees the JWT could guess
/// it offline.
pub fn sign_with_secret(
    secret: &Secret,
    algorithm: SecretAlgorithm,
    claims: &Map<String, Value>,
) -> Result<String, SigningError> {
    let bytes = secret.expose().as_bytes();
    if bytes.len() < algorithm.shortest_secret() {
        return Err(SigningError::new(format!(
            "{} needs a secret of at least {} bytes (RFC 7518 §3.2), and this one has {}; have the authorization server \
             give out a longer one, or set another client_auth",
            algorithm.as_str(),
            algorithm.shortest_secret(),
            bytes.len()
        )));
    }
    let header = json!({"alg": algorithm.as_str(), "typ": "JWT"});
    let key = EncodingKey::from_secret(bytes);
    signed(&key, algorithm.native(), &header, claims)
}

pub(super) const NO_RANDOM_BYTES: &str = "the system has no random bytes to give";

const UNKNOWN_KIND: &str = "the private key is of a kind that can't be used here; use EC with P-256 or P-384, Ed25519 or \
                            RSA, for example: openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out key.pem";

fn signed(
    key: &EncodingKey,
    algorithm: jsonwebtoken::Algorithm,
    header: &Value,
    claims: &Map<String, Value>,
) -> Result<String, SigningError> {
    let claims = serde_json::to_vec(claims)
        .map_err(|_| SigningError::new("the claims can't be written as JSON"))?;
    let mut message = encode(header.to_string().as_bytes());
    message.push('.');
    URL_SAFE_NO_PAD.encode_string(claims, &mut message);
    with_signature(key, algorithm, message)
}

fn with_signature(
    key: &EncodingKey,
    algorithm: jsonwebtoken::Algorithm,
    message: String,
) -> Result<String, SigningError> {
    let failed = || SigningError::new(format!("signing with {algorithm:?} failed"));
    // Of this crate's own features, not of the process: another user of the library can't take it from us.
    let signer = (DEFAULT_PROVIDER.signer_factory)(&algorithm, key).map_err(|_| failed())?;
    let signature = signer.try_sign(message.as_bytes()).map_err(|_| failed())?;
    let mut jwt = message;
    jwt.push('.');
    URL_SAFE_NO_PAD.encode_string(signature, &mut jwt);
    Ok(jwt)
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The thumbprint of a public key (RFC 7638), given only its required members. It is their hash, in the order of their
/// names, without white space. A map of serde_json is in that order, or in the order of insertion where another crate
/// enables that, so the members are sorted here.
pub(super) fn thumbprint(required: &Map<String, Value>) -> String {
    let mut members: Vec<_> = required.iter().collect();
    members.sort_by_key(|(name, _)| *name);
    let members: Vec<_> = members
        .into_iter()
        .map(|(name, value)| format!("\"{name}\":{value}"))
        .collect();
    let json = format!("{{{}}}", members.join(","));
    encode(digest::digest(&digest::SHA256, json.as_bytes()).as_ref())
}

/// The reason why no private key was found in a file.
fn no_key_in(pem: &[u8]) -> &'static str {
    let holds = |text: &str| {
        pem.windows(text.len())
            .any(|window| window == text.as_bytes())
    };
    if holds("ENCRYPTED") {
        "the private key is encrypted, and there is nobody to ask for its passphrase; decrypt it with: openssl pkey -in \
         key.pem -out plain.pem, and let nobody else read the file"
    } else if holds("-----BEGIN OPENSSH PRIVATE KEY-----") {
        "the private key is in OpenSSH's own form; convert it with: ssh-keygen -p -N \"\" -m PKCS8 -f key.pem"
    } else if holds("PRIVATE KEY-----") {
        "the private key's PEM is damaged, or of a kind that can't be used here; see what it is with: openssl pkey -in \
         key.pem -noout -text"
    } else if holds("PUBLIC KEY-----") {
        "the file has a public key, and signing takes the private one"
    } else if holds("-----BEGIN CERTIFICATE-----") {
        "the file has a certificate, and signing takes the private key that belongs to it"
    } else {
        "the file has no private key in PEM; make one with: openssl genpkey -algorithm EC -pkeyopt \
         ec_paramgen_curve:P-256 -out key.pem, or convert a DER file with: openssl pkey -inform DER -in key.der -out \
         key.pem"
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::encoding::{AsDer, EcPrivateKeyRfc5915Der};

    use super::super::testing::{key, key_set, members, pem, pkcs8};
    use super::super::{Expected, verify};
    use super::*;

    fn read(pem: &str) -> SigningKey {
        SigningKey::from_pem(pem.as_bytes()).unwrap()
    }

    fn refused(pem: &str) -> String {
        SigningKey::from_pem(pem.as_bytes())
            .unwrap_err()
            .to_string()
    }

    fn believed(key: &SigningKey, jwt: &str) -> bool {
        let expected = Expected {
            algorithms: &[key.algorithm()],
            types: None,
            issuer: None,
            audiences: None,
            now: 0,
            leeway: 0,
        };
        verify(jwt, &key_set(std::slice::from_ref(key)), &expected).is_ok()
    }

    #[test]
    fn a_key_is_read_in_each_form_that_openssl_writes() {
        for algorithm in [
            Algorithm::ES256,
            Algorithm::ES384,
            Algorithm::EdDSA,
            Algorithm::RS256,
        ] {
            let der = pkcs8(algorithm);
            let key = read(&pem("PRIVATE KEY", &der));
            assert_eq!(key.algorithm(), algorithm);
            assert!(believed(&key, &key.sign(None, &Map::new()).unwrap()));
            let (label, older) = match algorithm {
                Algorithm::EdDSA => continue,
                Algorithm::RS256 => {
                    let info = PrivateKeyInfoRef::try_from(der.as_slice()).unwrap();
                    ("RSA PRIVATE KEY", info.private_key.as_bytes().to_vec())
                }
                _ => {
                    let curve = match algorithm {
                        Algorithm::ES256 => &ECDSA_P256_SHA256_FIXED_SIGNING,
                        _ => &ECDSA_P384_SHA384_FIXED_SIGNING,
                    };
                    let pair = EcdsaKeyPair::from_pkcs8(curve, &der).unwrap();
                    let sec1: EcPrivateKeyRfc5915Der<'_> = pair.private_key().as_der().unwrap();
                    ("EC PRIVATE KEY", sec1.as_ref().to_vec())
                }
            };
            let older = read(&pem(label, &older));
            assert_eq!(older.public_jwk(), key.public_jwk(), "{label}");
            assert!(believed(&key, &older.sign(None, &Map::new()).unwrap()));
        }
    }

    #[test]
    fn what_else_is_in_the_file_does_not_matter() {
        let key = pem("PRIVATE KEY", &pkcs8(Algorithm::ES256));
        let text = format!(
            "made by hand\n{}{key}{}",
            pem("EC PARAMETERS", b"\x06\x08"),
            pem("CERTIFICATE", b"a certificate")
        );
        assert_eq!(read(&text).public_jwk(), read(&key).public_jwk());
        assert_eq!(read(&key.replace('\n', "\r\n")).kid(), read(&key).kid());
    }

    #[test]
    fn what_is_no_private_key_is_refused_with_the_mend() {
        let key = pem("PRIVATE KEY", &pkcs8(Algorithm::ES256));
        let cut = key.replacen('M', "", 1);
        for (text, said) in [
            (String::new(), "no private key in PEM"),
            ("SECRET".to_owned(), "no private key in PEM"),
            (pem("PUBLIC KEY", b"SECRET"), "has a public key"),
            (pem("RSA PUBLIC KEY", b"SECRET"), "has a public key"),
            (pem("CERTIFICATE", b"SECRET"), "has a certificate"),
            (pem("ENCRYPTED PRIVATE KEY", b"SECRET"), "openssl pkey -in"),
            (
                "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nU0VDUkVU\n\
                 -----END RSA PRIVATE KEY-----\n"
                    .to_owned(),
                "is encrypted",
            ),
            (pem("OPENSSH PRIVATE KEY", b"SECRET"), "ssh-keygen"),
            (pem("DSA PRIVATE KEY", b"SECRET"), "of a kind"),
            (pem("PRIVATE KEY", b"SECRET"), "damaged"),
            (pem("RSA PRIVATE KEY", b"SECRET"), "damaged"),
            (pem("EC PRIVATE KEY", b"SECRET"), "damaged"),
            (cut, "damaged"),
            (key.replace("-----END PRIVATE KEY-----\n", ""), "damaged"),
            (format!("{key}{key}"), "more than one"),
            (
                format!("{key}{}", pem("EC PRIVATE KEY", b"SECRET")),
                "more than one",
            ),
        ] {
            let error = refused(&text);
            assert!(error.contains(said), "{text}: {error}");
            assert!(!error.contains("SECRET") && !error.contains("U0VDUkVU"));
        }
    }

    #[test]
    fn keys_of_other_kinds_and_short_ones_are_refused() {
        // Made with OpenSSL for this test, and good for nothing else.
        for (text, said) in [
            (include_str!("testing/rsa-1024.pem"), "2048 bits"),
            (include_str!("testing/p-521.pem"), "neither P-256 nor P-384"),
            (
                include_str!("testing/secp256k1.pem"),
                "neither P-256 nor P-384",
            ),
            (include_str!("testing/ed448.pem"), "of a kind"),
            (include_str!("testing/x25519.pem"), "of a kind"),
            (include_str!("testing/rsa-pss.pem"), "of a kind"),
        ] {
            let error = refused(text);
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn an_rsa_key_signs_with_six_algorithms_and_any_other_with_one() {
        for &one in Algorithm::ALL {
            for &other in Algorithm::ALL {
                let allowed = one.kind() == other.kind();
                match key(one).with_algorithm(other) {
                    Ok(key) => {
                        assert!(allowed, "{one} {other}");
                        assert_eq!(key.algorithm(), other);
                        assert_eq!(key.public_jwk()["alg"], other.as_str());
                    }
                    Err(error) => {
                        assert!(!allowed, "{one} {other}");
                        assert!(error.to_string().contains(one.as_str()), "{error}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_thumbprint_is_that_of_rfc_7638_and_of_rfc_8037() {
        let n = "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n\
                 3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZ\
                 Hzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEg\
                 U8awapJzKnqDKgw";
        assert_eq!(
            thumbprint(&members(json!({"kty": "RSA", "n": n, "e": "AQAB"}))),
            "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
        );
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        assert_eq!(
            thumbprint(&members(json!({"x": x, "kty": "OKP", "crv": "Ed25519"}))),
            "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"
        );
    }

    #[test]
    fn the_key_of_rfc_8037_signs_as_its_example() {
        let secret = URL_SAFE_NO_PAD
            .decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")
            .unwrap();
        let der = [
            b"\x30\x2e\x02\x01\x00\x30\x05\x06\x03\x2b\x65\x70\x04\x22\x04\x20",
            &*secret,
        ]
        .concat();
        let key = read(&pem("PRIVATE KEY", &der));
        assert_eq!(key.kid(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
        assert_eq!(
            key.sign_parts(br#"{"alg":"EdDSA"}"#, b"Example of Ed25519 signing"),
            "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4k\
             i4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
        );
    }

    #[test]
    fn what_is_published_is_public_and_complete() {
        let keys: Vec<_> = [
            Algorithm::ES256,
            Algorithm::ES384,
            Algorithm::EdDSA,
            Algorithm::PS256,
        ]
        .into_iter()
        .map(key)
        .collect();
        let published: Value = serde_json::from_str(&jwks(&keys)).unwrap();
        let names = |jwk: &Value| {
            let mut names: Vec<_> = members(jwk.clone())
                .into_iter()
                .map(|(name, _)| name)
                .collect();
            names.sort();
            names.join(" ")
        };
        let published = published["keys"].as_array().unwrap();
        assert_eq!(
            published.iter().map(names).collect::<Vec<_>>(),
            [
                "alg crv kid kty use x y",
                "alg crv kid kty use x y",
                "alg crv kid kty use x",
                "alg e kid kty n use"
            ]
        );
        for (key, jwk) in keys.iter().zip(published) {
            assert_eq!(jwk["kid"], key.kid());
            assert_eq!(jwk["use"], "sig");
            assert_eq!(key.kid().len(), 43);
        }
        assert_eq!(jwks(&[]), r#"{"keys":[]}"#);
    }

    #[test]
    fn a_kid_that_is_given_is_used() {
        let key = key(Algorithm::ES256).with_kid("2026-11");
        assert_eq!(key.public_jwk()["kid"], "2026-11");
        let jwt = key.sign(Some("at+jwt"), &Map::new()).unwrap();
        let header = URL_SAFE_NO_PAD
            .decode(jwt.split('.').next().unwrap())
            .unwrap();
        assert_eq!(
            serde_json::from_slice::<Value>(&header).unwrap(),
            json!({"alg": "ES256", "kid": "2026-11", "typ": "at+jwt"})
        );
        assert!(believed(&key, &jwt));
    }

    #[test]
    fn debug_shows_nothing_of_the_key() {
        let key = key(Algorithm::EdDSA).with_kid("k");
        assert_eq!(
            format!("{key:?}"),
            "SigningKey { kid: \"k\", algorithm: EdDSA, .. }"
        );
    }

    #[test]
    fn a_secret_signs_as_hmac_does() {
        let secret =
            Secret::new("a secret of 64 bytes, which is what the longest of the three wan");
        for (algorithm, native) in [
            (SecretAlgorithm::HS256, aws_lc_rs::hmac::HMAC_SHA256),
            (SecretAlgorithm::HS384, aws_lc_rs::hmac::HMAC_SHA384),
            (SecretAlgorithm::HS512, aws_lc_rs::hmac::HMAC_SHA512),
        ] {
            let claims = members(json!({"sub": "gateway"}));
            let jwt = sign_with_secret(&secret, algorithm, &claims).unwrap();
            let (message, signature) = jwt.rsplit_once('.').unwrap();
            let hmac = aws_lc_rs::hmac::Key::new(native, secret.expose().as_bytes());
            let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
            aws_lc_rs::hmac::verify(&hmac, message.as_bytes(), &signature).unwrap();
            let header = URL_SAFE_NO_PAD
                .decode(message.split('.').next().unwrap())
                .unwrap();
            assert_eq!(
                serde_json::from_slice::<Value>(&header).unwrap()["alg"],
                algorithm.as_str()
            );
        }
    }

    #[test]
    fn a_secret_that_could_be_guessed_signs_nothing() {
        for algorithm in [
            SecretAlgorithm::HS256,
            SecretAlgorithm::HS384,
            SecretAlgorithm::HS512,
        ] {
            let secret = |length| Secret::new("x".repeat(length));
            let length = algorithm.shortest_secret();
            assert!(sign_with_secret(&secret(length), algorithm, &Map::new()).is_ok());
            for length in [0, length - 1] {
                let error = sign_with_secret(&secret(length), algorithm, &Map::new()).unwrap_err();
                let error = error.to_string();
                assert!(error.starts_with(algorithm.as_str()) && !error.contains("xx"));
            }
        }
    }
}
