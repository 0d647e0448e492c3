//! The keys that an authorization server publishes (RFC 7517), and their algorithms.
//!
//! A key set comes over the network and decides who gets access. So its size is bounded, and a duplicate name makes it
//! invalid. Of its keys, only those are kept that can verify a signature and are meant to: a key for encryption, a
//! shared secret, a private key that was published by mistake, or an RSA key that is too short is ignored. A set with
//! such keys is not an error; a set with no other keys is.

use std::fmt;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, ParsedPublicKey,
    RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
};
use jsonwebtoken::jwk::{AlgorithmParameters, Jwk};
use jsonwebtoken::{DecodingKey, DecodingKeyKind};
use serde_json::Value;
use strum::{EnumString, IntoStaticStr, VariantArray};

use super::object;

/// The maximum number of keys in a set, usable or not. A larger set is refused rather than cut: the signing key might
/// be among those cut off.
pub const MAX_KEYS: usize = 100;

/// The maximum length of a key set, in bytes.
pub const MAX_JWKS_LENGTH: usize = 512 * 1024;

/// The bounds of RSA moduli in bits: RFC 7518 §3.3 defines the lower, AWS-LC the upper.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// A signature algorithm of JWTs (RFC 7518 §3.1, RFC 8037): signs with a private key, verifies with a public one.
///
/// There is no `none`, and no HMAC: an allow-list of these algorithms can't be tricked into using a public key as a
/// shared secret.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, EnumString, IntoStaticStr, VariantArray, strum::Display,
)]
#[non_exhaustive]
pub enum Algorithm {
    /// ECDSA with P-256 and SHA-256.
    ES256,
    /// ECDSA with P-384 and SHA-384.
    ES384,
    /// Ed25519 (RFC 8037), under its name of RFC 9864 as well.
    #[strum(to_string = "EdDSA", serialize = "Ed25519")]
    EdDSA,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RS384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    RS512,
    /// RSASSA-PSS with SHA-256.
    PS256,
    /// RSASSA-PSS with SHA-384.
    PS384,
    /// RSASSA-PSS with SHA-512.
    PS512,
}

impl Algorithm {
    /// All algorithms: the default allow-list.
    pub const ALL: &'static [Algorithm] = Self::VARIANTS;

    /// The name in a header's `alg`.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The algorithm of this name, which is case-sensitive (RFC 7515 §4.1.1).
    pub fn from_name(name: &str) -> Option<Self> {
        name.parse().ok()
    }

    /// The type of key that it uses.
    pub(super) fn kind(self) -> KeyType {
        match self {
            Algorithm::ES256 => KeyType::P256,
            Algorithm::ES384 => KeyType::P384,
            Algorithm::EdDSA => KeyType::Ed25519,
            Algorithm::RS256
            | Algorithm::RS384
            | Algorithm::RS512
            | Algorithm::PS256
            | Algorithm::PS384
            | Algorithm::PS512 => KeyType::Rsa,
        }
    }

    pub(super) fn native(self) -> jsonwebtoken::Algorithm {
        match self {
            Algorithm::ES256 => jsonwebtoken::Algorithm::ES256,
            Algorithm::ES384 => jsonwebtoken::Algorithm::ES384,
            Algorithm::EdDSA => jsonwebtoken::Algorithm::EdDSA,
            Algorithm::RS256 => jsonwebtoken::Algorithm::RS256,
            Algorithm::RS384 => jsonwebtoken::Algorithm::RS384,
            Algorithm::RS512 => jsonwebtoken::Algorithm::RS512,
            Algorithm::PS256 => jsonwebtoken::Algorithm::PS256,
            Algorithm::PS384 => jsonwebtoken::Algorithm::PS384,
            Algorithm::PS512 => jsonwebtoken::Algorithm::PS512,
        }
    }
}

/// The type of a key, which determines the algorithms that it can be used with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyType {
    P256,
    P384,
    Ed25519,
    Rsa,
}

/// The reason why a key of a set is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unusable {
    /// It is not a JWK: not an object, a member missing or of the wrong type, not base64url, or not a point of its
    /// curve.
    #[error("it is not a well-formed JWK (RFC 7517, RFC 7518 §6)")]
    Malformed,
    /// Its `kty` or `crv` is unknown here.
    #[error("its kty or crv is not RSA, P-256, P-384 or Ed25519")]
    UnknownKind,
    /// Its `alg` is unknown here, or is for another type of key.
    #[error(
        "its alg is not RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 or EdDSA, or \
         does not go with its kty"
    )]
    OtherAlgorithm,
    /// Its `use` is not `sig`, or its `key_ops` do not contain `verify`.
    #[error("its use or key_ops say that it is not to verify with")]
    NotForSignatures,
    /// It is a shared secret (`oct`), which has no place in what a server publishes.
    #[error("it is a shared secret (kty oct), which must never be published")]
    Symmetric,
    /// It has private members: anybody who reads the set can sign with it.
    #[error(
        "it is a private key: whoever can read the JWKS can sign with it; take it out and \
         make a new one"
    )]
    Private,
    /// It is an RSA key of less than 2048 bits (RFC 7518 §3.3), or of more than 8192.
    #[error("it is an RSA key of less than 2048 bits, or of more than 8192")]
    RsaLength,
}

/// The reason why bytes are not a key set. It contains none of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeySetError {
    /// More than [`MAX_JWKS_LENGTH`] bytes.
    #[error("the JWKS is longer than 512 KiB")]
    TooLong,
    /// Not a JSON object with an array `keys`.
    #[error("the JWKS is not a JSON object with an array \"keys\" (RFC 7517 §5)")]
    NotKeySet,
    /// A duplicate name in one of its objects.
    #[error("a name stands twice in an object of the JWKS, so that it says two things at once")]
    Duplicate,
    /// A whole number in it is too large to be read exactly.
    #[error("the JWKS holds a whole number that is too large to be read exactly (beyond 64 bits)")]
    Number,
    /// More than [`MAX_KEYS`] keys.
    #[error("the JWKS has {0} keys, and more than {MAX_KEYS} are not read")]
    TooManyKeys(usize),
    /// No key at all.
    #[error("the JWKS has no key")]
    Empty,
    /// Keys, but none that is usable.
    #[error("none of the keys in the JWKS ({keys}) can verify a signature; of the first: {first}")]
    NoUsableKey {
        /// The number of keys.
        keys: usize,
        /// The reason why the first of them is not used.
        first: Unusable,
    },
}

/// A set of public keys: a JWKS (RFC 7517 §5), as read from a server's `jwks_uri`.
pub struct KeySet {
    keys: Box<[VerifyingKey]>,
    ignored: Option<(usize, Unusable)>,
}

impl KeySet {
    /// Parses a JWKS.
    ///
    /// Keys that can't be used are ignored: see [`Unusable`]. At most [`MAX_JWKS_LENGTH`] bytes and [`MAX_KEYS`] keys
    /// are read; a larger set is refused as a whole.
    ///
    /// # Errors
    /// [`KeySetError`] when it is not a JWKS, or has no usable key.
    pub fn parse(json: &[u8]) -> Result<Self, KeySetError> {
        if json.len() > MAX_JWKS_LENGTH {
            return Err(KeySetError::TooLong);
        }
        let mut members = object(json).map_err(|error| match error {
            super::ObjectError::NotObject => KeySetError::NotKeySet,
            super::ObjectError::Duplicate => KeySetError::Duplicate,
            super::ObjectError::Number => KeySetError::Number,
        })?;
        let Some(Value::Array(jwks)) = members.remove("keys") else {
            return Err(KeySetError::NotKeySet);
        };
        let count = jwks.len();
        if count > MAX_KEYS {
            return Err(KeySetError::TooManyKeys(count));
        }
        let mut keys = Vec::with_capacity(count);
        let mut first = None;
        for jwk in jwks {
            match VerifyingKey::read(jwk) {
                Ok(key) => keys.push(key),
                Err(reason) => first = first.or(Some(reason)),
            }
        }
        match (keys.len(), first) {
            (0, None) => Err(KeySetError::Empty),
            (0, Some(first)) => Err(KeySetError::NoUsableKey { keys: count, first }),
            (used, first) => Ok(KeySet {
                keys: keys.into_boxed_slice(),
                ignored: first.map(|first| (count - used, first)),
            }),
        }
    }

    /// The number of usable keys: at least one.
    #[expect(clippy::len_without_is_empty, reason = "it never is")]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// The number of ignored keys, and the reason for the first of them. `None` when all are used.
    pub fn ignored(&self) -> Option<(usize, Unusable)> {
        self.ignored
    }

    pub(super) fn keys(&self) -> &[VerifyingKey] {
        &self.keys
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySet")
            .field("keys", &self.keys.len())
            .field("ignored", &self.ignored)
            .finish()
    }
}

/// A public key that may verify signatures.
pub(super) struct VerifyingKey {
    pub kid: Option<Box<str>>,
    algorithm: Option<Algorithm>,
    kind: KeyType,
    pub key: DecodingKey,
}

impl VerifyingKey {
    /// Whether a signature of this algorithm may be verified with it.
    pub fn takes(&self, algorithm: Algorithm) -> bool {
        self.kind == algorithm.kind() && self.algorithm.is_none_or(|only| only == algorithm)
    }

    pub fn read(jwk: Value) -> Result<Self, Unusable> {
        let member = |name| jwk.get(name).filter(|value| !value.is_null());
        let kty = member("kty")
            .and_then(Value::as_str)
            .ok_or(Unusable::Malformed)?;
        if kty == "oct" {
            return Err(Unusable::Symmetric);
        }
        if ["d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"]
            .iter()
            .any(|name| member(name).is_some())
        {
            return Err(Unusable::Private);
        }
        let verifies = |operations: &Value| {
            operations
                .as_array()
                .is_some_and(|operations| operations.iter().any(|operation| operation == "verify"))
        };
        if member("use").is_some_and(|purpose| purpose != "sig")
            || member("key_ops").is_some_and(|operations| !verifies(operations))
        {
            return Err(Unusable::NotForSignatures);
        }
        let algorithm = match member("alg") {
            None => None,
            Some(Value::String(name)) => {
                Some(Algorithm::from_name(name).ok_or(Unusable::OtherAlgorithm)?)
            }
            Some(_) => return Err(Unusable::Malformed),
        };
        let kid = match member("kid") {
            None => None,
            Some(Value::String(kid)) => Some(kid.as_str().into()),
            Some(_) => return Err(Unusable::Malformed),
        };
        let kind = match (kty, member("crv").map(Value::as_str)) {
            ("RSA", _) => KeyType::Rsa,
            ("EC", Some(Some("P-256"))) => KeyType::P256,
            ("EC", Some(Some("P-384"))) => KeyType::P384,
            ("OKP", Some(Some("Ed25519"))) => KeyType::Ed25519,
            ("EC" | "OKP", None | Some(None)) => return Err(Unusable::Malformed),
            _ => return Err(Unusable::UnknownKind),
        };
        let jwk: Jwk = serde_json::from_value(jwk).map_err(|_| Unusable::Malformed)?;
        let key = DecodingKey::from_jwk(&jwk).map_err(|_| Unusable::Malformed)?;
        check(kind, &jwk, &key)?;
        if algorithm.is_some_and(|algorithm| algorithm.kind() != kind) {
            return Err(Unusable::OtherAlgorithm);
        }
        Ok(VerifyingKey {
            kid,
            algorithm,
            kind,
            key,
        })
    }
}

/// Whether a key is valid: a point on the curve, a modulus and an exponent. An invalid key would verify nothing; it is
/// reported when it is read.
fn check(kind: KeyType, jwk: &Jwk, key: &DecodingKey) -> Result<(), Unusable> {
    let malformed = |_| Unusable::Malformed;
    match (kind, &jwk.algorithm, key.kind()) {
        (KeyType::Rsa, _, DecodingKeyKind::RsaModulusExponent { n, e }) => {
            let modulus = n.iter().skip_while(|&&byte| byte == 0);
            let leading = modulus
                .clone()
                .next()
                .map_or(8, |byte| byte.leading_zeros());
            let bits = (modulus.count() * 8).saturating_sub(leading as usize);
            if !RSA_BITS.contains(&bits) {
                return Err(Unusable::RsaLength);
            }
            // With an exponent of 1 every message is its own signature, and the library reads such a key.
            let exponent: Vec<_> = e.iter().skip_while(|&&byte| byte == 0).collect();
            if exponent.last().is_none_or(|&last| last % 2 == 0) || exponent == [&1] {
                return Err(Unusable::Malformed);
            }
            RsaPublicKeyComponents { n, e }
                .to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA256)
                .map_err(malformed)?;
        }
        // Each coordinate has its full length (RFC 7518 §6.2.1.2), in base64url: else two of them together could be
        // read as two others.
        (_, AlgorithmParameters::EllipticCurve(point), DecodingKeyKind::SecretOrDer(bytes)) => {
            let (length, algorithm) = match kind {
                KeyType::P256 => (43, &ECDSA_P256_SHA256_FIXED),
                _ => (64, &ECDSA_P384_SHA384_FIXED),
            };
            if [&point.x, &point.y].iter().any(|text| text.len() != length) {
                return Err(Unusable::Malformed);
            }
            ParsedPublicKey::new(algorithm, bytes).map_err(malformed)?;
        }
        (KeyType::Ed25519, _, DecodingKeyKind::SecretOrDer(bytes)) => {
            ParsedPublicKey::new(&ED25519, bytes).map_err(malformed)?;
        }
        _ => return Err(Unusable::Malformed),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::testing::{key, key_set};
    use super::*;

    fn parse(jwks: &Value) -> Result<KeySet, KeySetError> {
        KeySet::parse(jwks.to_string().as_bytes())
    }

    fn jwk(algorithm: Algorithm) -> Value {
        key(algorithm).public_jwk()
    }

    /// A key with a member more, or another one.
    fn with(algorithm: Algorithm, name: &str, value: impl Into<Value>) -> Value {
        let mut jwk = jwk(algorithm);
        jwk[name] = value.into();
        jwk
    }

    fn without(algorithm: Algorithm, name: &str) -> Value {
        let mut jwk = jwk(algorithm);
        jwk.as_object_mut().unwrap().remove(name);
        jwk
    }

    /// Why this key is not used. A good one beside it is, all the same.
    fn unusable(jwk: Value) -> Option<Unusable> {
        let alone = parse(&json!({"keys": [jwk]}));
        let extra_claims = parse(&json!({"keys": [jwk, self::jwk(Algorithm::ES384)]})).unwrap();
        match alone {
            Ok(set) => {
                assert_eq!((set.len(), set.ignored()), (1, None));
                assert_eq!((extra_claims.len(), extra_claims.ignored()), (2, None));
                None
            }
            Err(KeySetError::NoUsableKey { keys: 1, first }) => {
                assert_eq!(
                    (extra_claims.len(), extra_claims.ignored()),
                    (1, Some((1, first)))
                );
                Some(first)
            }
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn a_key_of_every_kind_is_used_for_what_it_is_for() {
        for &algorithm in Algorithm::ALL {
            let set = key_set(&[key(algorithm)]);
            assert_eq!((set.len(), set.ignored()), (1, None));
            let [key] = set.keys() else { unreachable!() };
            assert_eq!(key.kid.as_deref(), Some(self::key(algorithm).kid()));
            for &other in Algorithm::ALL {
                assert_eq!(key.takes(other), other == algorithm, "{algorithm} {other}");
            }
            // Without alg it is for all of its kind.
            let set = parse(&json!({"keys": [without(algorithm, "alg")]})).unwrap();
            for &other in Algorithm::ALL {
                assert_eq!(set.keys()[0].takes(other), other.kind() == algorithm.kind());
            }
        }
    }

    #[test]
    fn names_of_algorithms_are_read_as_they_are_written() {
        for &algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::from_name(algorithm.as_str()), Some(algorithm));
            assert_eq!(
                Algorithm::from_name(&algorithm.as_str().to_lowercase()),
                None
            );
        }
        assert_eq!(Algorithm::from_name("Ed25519"), Some(Algorithm::EdDSA));
        for name in [
            "", "none", "HS256", "HS384", "HS512", "ES512", "ES256K", "Ed448", " RS256",
        ] {
            assert_eq!(Algorithm::from_name(name), None, "{name}");
        }
    }

    #[test]
    fn members_that_do_not_matter_do_not_matter() {
        use Algorithm::{ES256, EdDSA};
        for jwk in [
            without(ES256, "kid"),
            without(ES256, "use"),
            with(ES256, "kid", Value::Null),
            with(ES256, "key_ops", json!(["sign", "verify"])),
            with(ES256, "x5t", "AA"),
            with(ES256, "x5c", json!(["MIIB"])),
            with(ES256, "exp", 5),
            with(ES256, "ext", true),
            with(EdDSA, "alg", "Ed25519"),
            with(EdDSA, "y", "AA"),
        ] {
            assert_eq!(unusable(jwk.clone()), None, "{jwk}");
        }
    }

    #[test]
    fn keys_that_are_not_to_verify_with_are_not_used() {
        use Algorithm::{ES256, EdDSA, RS256};
        use Unusable::*;
        for (jwk, reason) in [
            (with(RS256, "use", "enc"), NotForSignatures),
            (with(RS256, "use", "SIG"), NotForSignatures),
            (with(RS256, "use", 1), NotForSignatures),
            (with(ES256, "key_ops", json!([])), NotForSignatures),
            (
                with(ES256, "key_ops", json!(["sign", "Verify"])),
                NotForSignatures,
            ),
            (with(ES256, "key_ops", "verify"), NotForSignatures),
            (with(RS256, "alg", "RSA-OAEP"), OtherAlgorithm),
            (with(RS256, "alg", "HS256"), OtherAlgorithm),
            (with(RS256, "alg", "none"), OtherAlgorithm),
            (with(RS256, "alg", "ES256"), OtherAlgorithm),
            (with(ES256, "alg", "ES384"), OtherAlgorithm),
            (with(ES256, "alg", "EdDSA"), OtherAlgorithm),
            (with(EdDSA, "alg", "RS256"), OtherAlgorithm),
            (
                json!({"kty": "oct", "k": "AAAA", "alg": "HS256"}),
                Symmetric,
            ),
            (
                json!({"kty": "oct", "k": "AAAA", "alg": "RS256"}),
                Symmetric,
            ),
            (with(ES256, "d", "AAAA"), Private),
            (with(RS256, "d", "AAAA"), Private),
            (with(RS256, "p", "AAAA"), Private),
            (with(ES256, "crv", "secp256k1"), UnknownKind),
            (with(ES256, "crv", "Ed25519"), UnknownKind),
            (with(ES256, "kty", "AKP"), UnknownKind),
            (with(ES256, "kty", "ec"), UnknownKind),
            (
                json!({"kty": "OKP", "crv": "X25519", "x": "A".repeat(43)}),
                UnknownKind,
            ),
            (
                json!({"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"}),
                UnknownKind,
            ),
        ] {
            assert_eq!(unusable(jwk.clone()), Some(reason), "{jwk}");
        }
    }

    #[test]
    fn what_is_no_key_is_not_used() {
        use Algorithm::{ES256, ES384, EdDSA, RS256};
        let text = |jwk: &Value, name: &str| jwk[name].as_str().unwrap().to_owned();
        let p256 = jwk(ES256);
        let mut swapped = p256.clone();
        swapped["x"] = p256["y"].clone();
        swapped["y"] = p256["x"].clone();
        // One byte of x moved to y: together they are the same bytes.
        let mut moved = p256.clone();
        moved["x"] = json!(&text(&p256, "x")[..40]);
        for jwk in [
            json!(null),
            json!(1),
            json!("x"),
            json!([]),
            json!({}),
            json!({"kty": 1}),
            json!({"kty": "EC"}),
            json!({"kty": "RSA"}),
            json!({"kty": "OKP"}),
            with(ES256, "kid", 1),
            with(ES256, "alg", 1),
            without(ES256, "x"),
            without(ES256, "y"),
            with(ES256, "crv", 1),
            with(ES256, "crv", "P-384"),
            with(ES384, "crv", "P-256"),
            with(ES256, "x", ""),
            with(ES256, "x", "!"),
            with(ES256, "x", format!("{}=", text(&p256, "x"))),
            with(ES256, "x", "A".repeat(43)),
            with(ES256, "y", "A".repeat(43)),
            swapped,
            moved,
            with(EdDSA, "x", ""),
            with(EdDSA, "x", "A".repeat(42)),
            with(EdDSA, "x", "A".repeat(86)),
            without(RS256, "e"),
            with(RS256, "n", "*"),
            with(RS256, "e", ""),
            with(RS256, "e", "AQ"),
            with(RS256, "e", "AAAB"),
            with(RS256, "e", "AA"),
            with(RS256, "e", "AQAA"),
        ] {
            assert_eq!(unusable(jwk.clone()), Some(Unusable::Malformed), "{jwk}");
        }
    }

    #[test]
    fn rsa_keys_of_a_length_that_is_too_short_or_too_long_are_not_used() {
        let of = |bytes: usize, first: u8| {
            let mut n = vec![0xff; bytes];
            n[0] = first;
            let n = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, n);
            unusable(with(Algorithm::RS256, "n", n))
        };
        for (bytes, first) in [
            (0x80, 0xff),
            (0x100, 0x7f),
            (0x101, 0),
            (0x401, 1),
            (0x1000, 0xff),
        ] {
            let short_or_long = of(bytes, first) == Some(Unusable::RsaLength);
            // 257 bytes of which the first is zero are 2048 bits.
            assert_eq!(
                short_or_long,
                (bytes, first) != (0x101, 0),
                "{bytes} {first}"
            );
        }
        assert_eq!(
            unusable(with(Algorithm::RS256, "n", "")),
            Some(Unusable::RsaLength)
        );
    }

    #[test]
    fn what_is_no_set_of_keys_is_refused() {
        let good = jwk(Algorithm::ES256).to_string();
        for text in [
            "",
            "x",
            "[]",
            "{}",
            r#"{"keys":null}"#,
            r#"{"keys":{}}"#,
            &good,
            &format!("[{good}]"),
            &format!(r#"{{"Keys":[{good}]}}"#),
            &format!(r#"{{"keys":[{good}]}}x"#),
        ] {
            let error = KeySet::parse(text.as_bytes()).unwrap_err();
            assert_eq!(error, KeySetError::NotKeySet, "{text}");
        }
        assert_eq!(parse(&json!({"keys": []})).unwrap_err(), KeySetError::Empty);
        let deep = format!(r#"{{"keys":[{good}],"x":{}"#, "[".repeat(10_000));
        assert_eq!(
            KeySet::parse(deep.as_bytes()).unwrap_err(),
            KeySetError::NotKeySet
        );
    }

    #[test]
    fn a_name_that_stands_twice_makes_a_set_worthless_wherever_it_is() {
        let good = jwk(Algorithm::ES256).to_string();
        let twice = good.replacen('{', r#"{"use":"enc","#, 1);
        for text in [
            format!(r#"{{"keys":[{good}],"keys":[{good}]}}"#),
            format!(r#"{{"keys":[{good},{twice}]}}"#),
        ] {
            let error = KeySet::parse(text.as_bytes()).unwrap_err();
            assert_eq!(error, KeySetError::Duplicate);
        }
    }

    #[test]
    fn a_set_of_more_than_a_hundred_keys_is_refused_whatever_they_are() {
        let good = jwk(Algorithm::EdDSA);
        let of = |key: &Value, count: usize| parse(&json!({"keys": vec![key.clone(); count]}));
        assert_eq!(of(&good, 100).unwrap().len(), 100);
        assert_eq!(of(&good, 101).unwrap_err(), KeySetError::TooManyKeys(101));
        assert_eq!(
            of(&json!({}), 10_000).unwrap_err(),
            KeySetError::TooManyKeys(10_000)
        );
        assert_eq!(
            of(&jwk(Algorithm::RS256), 10_000).unwrap_err(),
            KeySetError::TooLong
        );
        assert_eq!(
            KeySet::parse(&vec![b' '; MAX_JWKS_LENGTH + 1]).unwrap_err(),
            KeySetError::TooLong
        );
    }

    #[test]
    fn an_error_says_why_the_first_key_is_not_used() {
        let set =
            json!({"keys": [with(Algorithm::RS256, "use", "enc"), {"kty": "oct", "k": "SECRET"}]});
        let error = parse(&set).unwrap_err().to_string();
        assert_eq!(
            error,
            "none of the keys in the JWKS (2) can verify a signature; of the first: its use or key_ops say that it is \
             not to verify with"
        );
        assert_eq!(
            format!("{:?}", key_set(&[key(Algorithm::ES256)])),
            "KeySet { keys: 1, ignored: None }"
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = KeySet::parse(&bytes);
        }

        #[test]
        fn no_key_makes_it_panic(
            name in "kty|crv|x|y|n|e|alg|use|kid|key_ops",
            value in prop_oneof![
                Just(Value::Null), any::<i64>().prop_map(Value::from), "[A-Za-z0-9_=-]{0,90}".prop_map(Value::from),
                "EC|RSA|OKP|oct|P-256|P-384|Ed25519|sig|enc".prop_map(Value::from),
            ],
            which in 0..4usize,
        ) {
            let algorithm = [Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA, Algorithm::RS256][which];
            let _ = parse(&json!({"keys": [with(algorithm, &name, value)]}));
        }
    }
}
