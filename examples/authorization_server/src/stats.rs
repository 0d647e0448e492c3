//! Request counters, which show tests the requests that reached the server.

use std::collections::HashMap;

use http::{HeaderMap, Request};
use serde_json::{Map, Value, json};

use crate::client_authentication::{Form, authorization, basic_credentials};

/// Counters since the start or since `DELETE /stats`.
#[derive(Default)]
pub struct Stats {
    pub introspections: u64,
    pub active: u64,
    pub inactive: u64,
    pub unauthorized: u64,
    pub tokens_issued: u64,
    pub connections: u64,
    pub by_token: HashMap<String, u64>,
    pub last_request: Option<Value>,
}

impl Stats {
    /// The counters as `/stats` shows them.
    pub fn to_json(&self) -> Value {
        json!({
            "introspections": self.introspections,
            "active": self.active,
            "inactive": self.inactive,
            "unauthorized": self.unauthorized,
            "tokens_issued": self.tokens_issued,
            "connections": self.connections,
            "by_token": self.by_token,
            "last_request": self.last_request,
        })
    }
}

/// A request as `/stats` shows it: no token, no credential.
pub fn describe<B: AsRef<[u8]>>(request: &Request<B>, form: Option<&Form>) -> Value {
    let mut headers = Map::new();
    for name in request.headers().keys() {
        let value = if name == http::header::AUTHORIZATION {
            without_credential(request.headers())
        } else {
            let values = request.headers().get_all(name).iter();
            values
                .map(|value| String::from_utf8_lossy(value.as_bytes()))
                .collect::<Vec<_>>()
                .join(", ")
        };
        headers.insert(name.as_str().to_owned(), value.into());
    }
    let parameters: Vec<&str> = form
        .into_iter()
        .flat_map(Form::iter)
        .map(|(name, _)| name)
        .collect();
    json!({
        "method": request.method().as_str(),
        "path": request.uri().path_and_query().map_or("", |path| path.as_str()),
        "version": format!("{:?}", request.version()),
        "headers": headers,
        "parameters": parameters,
        "content_length": request.body().as_ref().len(),
    })
}

fn without_credential(headers: &HeaderMap) -> String {
    match authorization(headers) {
        Some((scheme, credentials)) if scheme.eq_ignore_ascii_case("basic") => {
            match basic_credentials(credentials) {
                Some((id, _)) => format!("{scheme} {id}"),
                None => scheme.to_owned(),
            }
        }
        // Without a space between them there is no telling a scheme from a credential.
        Some((scheme, credentials)) if !credentials.is_empty() => scheme.to_owned(),
        _ => String::new(),
    }
}
