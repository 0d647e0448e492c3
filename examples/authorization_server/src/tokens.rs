//! Access tokens, opaque to the client, with a JWT for introspection; and refresh tokens. Any client may introspect
//! refresh tokens too, and the answer does not say what they are, as with some servers.

use std::collections::HashMap;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use aws_lc_rs::{digest, rand};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Map, Value};

/// Below this number of tokens, expired ones are not removed.
const FIRST_PRUNING: usize = 1024;

/// For how many seconds a refresh token lasts longer than its access token.
const REFRESH_LIFETIME: i64 = 86_400;

/// Signs JWTs with an ES256 key of its own.
pub struct Signer {
    key: EncodingKey,
    header: Header,
    jwks: JwkSet,
}

impl Signer {
    /// Makes a new key.
    pub fn new() -> Result<Self, String> {
        let cannot = |what: &str| format!("cannot make the signing key: {what}");
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
            .map_err(|_| cannot("generation failed"))?;
        let der = pair.to_pkcs8v1().map_err(|_| cannot("encoding failed"))?;
        let key = EncodingKey::from_ec_der(der.as_ref());
        let mut jwk = Jwk::from_encoding_key(&key, Algorithm::ES256)
            .map_err(|error| cannot(&error.to_string()))?;
        let kid = jwk
            .thumbprint(ThumbprintHash::SHA256)
            .map_err(|error| cannot(&error.to_string()))?;
        jwk.common.key_id = Some(kid.clone());
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        let mut header = Header::new(Algorithm::ES256);
        header.typ = Some("at+jwt".to_owned());
        header.kid = Some(kid);
        Ok(Self {
            key,
            header,
            jwks: JwkSet { keys: vec![jwk] },
        })
    }

    /// The public half, as `/jwks` publishes it.
    pub fn jwks(&self) -> &JwkSet {
        &self.jwks
    }

    fn sign(&self, claims: &Map<String, Value>) -> Result<String, String> {
        jsonwebtoken::encode(&self.header, claims, &self.key)
            .map_err(|error| format!("cannot sign: {error}"))
    }
}

/// An issued token.
pub struct Token {
    /// The client it was issued to.
    pub client_id: String,
    /// The user who is behind it, if one is.
    pub username: Option<String>,
    /// The claims that the JWT carries.
    pub claims: Map<String, Value>,
    /// When it expires, in seconds since the epoch; the claim `exp` may be made to say something else.
    pub expires_at: i64,
    /// The signed JWT: made once, so that a token always has the same one. A refresh token has none.
    pub jwt: Option<String>,
}

/// Tokens by the name of the opaque string.
#[derive(Default)]
pub struct Tokens {
    by_name: HashMap<String, Token>,
    prune_at: usize,
}

impl Tokens {
    /// Stores a token.
    pub fn insert(&mut self, opaque: &str, token: Token, now: i64) {
        if self.by_name.len() >= self.prune_at.max(FIRST_PRUNING) {
            self.by_name.retain(|_, token| token.expires_at > now);
            self.prune_at = self.by_name.len() * 2;
        }
        self.by_name.insert(name(opaque), token);
    }

    /// The token of this name, if it is active.
    pub fn active(&self, name: &str, now: i64) -> Option<&Token> {
        self.by_name
            .get(name)
            .filter(|token| token.expires_at > now)
    }

    /// Removes the token of this name.
    pub fn remove(&mut self, name: &str) {
        self.by_name.remove(name);
    }
}

impl Token {
    /// A token with these claims, signed.
    pub fn sign(
        signer: &Signer,
        client_id: String,
        username: Option<String>,
        claims: Map<String, Value>,
        expires_at: i64,
    ) -> Result<Self, String> {
        let jwt = signer.sign(&claims)?;
        Ok(Self {
            client_id,
            username,
            claims,
            expires_at,
            jwt: Some(jwt),
        })
    }

    /// The refresh token of an access token.
    pub fn refresh(&self) -> Self {
        Self {
            client_id: self.client_id.clone(),
            username: self.username.clone(),
            claims: self.claims.clone(),
            expires_at: self.expires_at.saturating_add(REFRESH_LIFETIME),
            jwt: None,
        }
    }

    /// Whether it is a refresh token.
    pub fn is_refresh(&self) -> bool {
        self.jwt.is_none()
    }
}

/// A random string of 256 bits, base64url.
pub fn random() -> Result<String, String> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).map_err(|_| "no randomness".to_owned())?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// The name under which a token is stored and counted: its SHA-256 in hexadecimal.
pub fn name(opaque: &str) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let hash = digest::digest(&digest::SHA256, opaque.as_bytes());
    let digits = hash.as_ref().iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(expires_at: i64) -> Token {
        let (client_id, claims, jwt) = ("gateway".to_owned(), Map::new(), String::new());
        Token {
            client_id,
            username: None,
            claims,
            expires_at,
            jwt: Some(jwt),
        }
    }

    #[test]
    fn a_token_is_active_until_the_second_it_expires() {
        let mut tokens = Tokens::default();
        tokens.insert("opaque", token(100), 0);
        assert!(tokens.active(&name("opaque"), 99).is_some());
        assert!(tokens.active(&name("opaque"), 100).is_none());
    }

    #[test]
    fn expired_tokens_do_not_pile_up() {
        let mut tokens = Tokens::default();
        for number in 0..10 * FIRST_PRUNING {
            tokens.insert(&number.to_string(), token(1), 1);
        }
        assert!(tokens.by_name.len() <= FIRST_PRUNING);
    }

    #[test]
    fn the_name_is_the_sha_256_of_the_token() {
        assert_eq!(
            name("abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
