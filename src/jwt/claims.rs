//! Claims.

/// Claims of a token, from an introspection response (RFC 7662 §2.2) and from the JWT's payload (RFC 7519 §4).
pub struct Claims {
    /// Expiry, in seconds since the epoch.
    pub exp: Option<i64>,
    /// Not valid before, in seconds since the epoch.
    pub nbf: Option<i64>,
    /// Issued at, in seconds since the epoch.
    pub iat: Option<i64>,
    /// Scopes, separated by one space each; empty when there is none.
    pub scope: Box<str>,
    /// Audiences.
    pub aud: Box<[Box<str>]>,
    /// Issuer.
    pub iss: Option<Box<str>>,
    /// Subject.
    pub sub: Option<Box<str>>,
    /// The OAuth client that the token was issued to.
    pub client_id: Option<Box<str>>,
    /// All claims as one JSON object, followed by one NUL.
    json: Box<str>,
}

/// A claim that cannot be what it should be.
#[derive(Debug)]
pub struct ClaimsError(pub &'static str);

impl Claims {
    /// All claims as one JSON object. The byte after it is NUL.
    pub fn json(&self) -> &str {
        &self.json[..self.json.len() - 1]
    }

    /// Heap memory held, in bytes.
    pub fn heap_size(&self) -> usize {
        self.json.len()
            + self.scope.len()
            + self
                .aud
                .iter()
                .map(|aud| aud.len() + size_of::<Box<str>>())
                .sum::<usize>()
            + [&self.iss, &self.sub, &self.client_id]
                .into_iter()
                .flatten()
                .map(|text| text.len())
                .sum::<usize>()
    }
}
