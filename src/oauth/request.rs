//! A request to one of the authorization server's endpoints.

use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method};
use zeroize::Zeroizing;

use super::ClientAuth;

/// A call to make to one of the authorization server's endpoints.
pub struct Request {
    /// The HTTP method.
    pub method: Method,
    /// The client authentication in use.
    pub client_auth: ClientAuth,
    /// The headers. Credentials among them are marked sensitive.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The form, percent-encoded.
    pub body: Zeroizing<Vec<u8>>,
}

impl Request {
    /// Creates a request for a JSON document.
    pub(crate) fn get_json() -> Self {
        Request {
            method: Method::GET,
            client_auth: ClientAuth::None,
            headers: vec![(ACCEPT, HeaderValue::from_static("application/json"))],
            body: Zeroizing::default(),
        }
    }

    /// Creates a request that sends a form and accepts `accept`.
    pub(crate) fn form(client_auth: ClientAuth, accept: &'static str) -> Self {
        let mut headers = Vec::with_capacity(3);
        headers.push((
            CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded"),
        ));
        headers.push((ACCEPT, HeaderValue::from_static(accept)));
        Request {
            method: Method::POST,
            client_auth,
            headers,
            body: Zeroizing::default(),
        }
    }

    /// Adds parameters to the form.
    pub(crate) fn add(&mut self, parameters: &[(&str, &str)]) {
        // An encoded byte takes at most three.
        let most: usize = parameters
            .iter()
            .map(|(name, value)| "&=".len() + name.len() + 3 * value.len())
            .sum();
        if self.body.capacity() - self.body.len() < most {
            // A buffer that grows by itself leaves a copy behind; this one is wiped as it is replaced.
            let mut body = Zeroizing::new(Vec::with_capacity(self.body.len() + most));
            body.extend_from_slice(&self.body);
            self.body = body;
        }
        for (name, value) in parameters {
            if !self.body.is_empty() {
                self.body.push(b'&');
            }
            self.body.extend_from_slice(name.as_bytes());
            self.body.push(b'=');
            for piece in form_urlencoded::byte_serialize(value.as_bytes()) {
                self.body.extend_from_slice(piece.as_bytes());
            }
        }
    }
}
