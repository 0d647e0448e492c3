//! Fuzz target `metadata`: authorization server metadata (RFC 8414).

use serde_json::Value;
use url::Url;

use super::{assert_fit_for_a_log, is_unambiguous};
use crate::oauth::{Metadata, Server, well_known};

/// An issuer in the first line, and a document that was found at one of its well-known places.
pub fn metadata(input: &[u8]) {
    let end = input.iter().position(|&byte| byte == b'\n').unwrap_or(0);
    let Ok(issuer) = std::str::from_utf8(&input[..end]) else {
        return;
    };
    let body = &input[end..];
    if let Ok(url) = Url::parse(issuer)
        && ["http", "https"].contains(&url.scheme())
    {
        for place in well_known(&url) {
            assert_eq!(place.origin(), url.origin());
            assert!(place.path().contains("/.well-known/") && place.query().is_none());
        }
    }
    let metadata = match Metadata::read(body, issuer) {
        Ok(metadata) => metadata,
        Err(error) => return assert_fit_for_a_log(&error.to_string()),
    };
    assert!(is_unambiguous(body));
    let document: Value = serde_json::from_slice(body).expect("it is JSON");
    assert_eq!(document["issuer"], issuer, "it is the issuer's own");
    for (name, url) in [
        ("introspection_endpoint", &metadata.introspection_endpoint),
        ("token_endpoint", &metadata.token_endpoint),
        ("jwks_uri", &metadata.jwks_uri),
    ] {
        let Some(url) = url else {
            assert!(document[name].is_null());
            continue;
        };
        assert_eq!(
            Url::parse(document[name].as_str().unwrap_or_default()).as_ref(),
            Ok(url)
        );
        let secure = url.scheme() == "https";
        assert!(secure || (url.scheme() == "http" && !issuer.starts_with("https:")));
        assert!(url.has_host() && url.username().is_empty() && url.password().is_none());
        assert_fit_for_a_log(&Url::to_string(url)[..url.as_str().len().min(1000)]);
    }
    let server = Server::default().with_metadata(&metadata);
    assert_eq!(
        server.introspection.len(),
        usize::from(metadata.introspection_endpoint.is_some())
    );
    // Configured values are not replaced.
    assert_eq!(
        server.clone().with_metadata(&Metadata::default()).token,
        server.token
    );
}
