//! The protected resource, as clients and authorization servers know it: its identifier, and the metadata that tells a
//! client where to get a token (RFC 9728). All code here is pure.
//!
//! ```
//! use phantom_token::gateway::resource::{Metadata, metadata_url};
//!
//! assert_eq!(
//!     metadata_url("https://api.example.com/orders").as_deref(),
//!     Some("https://api.example.com/.well-known/oauth-protected-resource/orders")
//! );
//! let metadata = Metadata {
//!     resource: "https://api.example.com/orders",
//!     authorization_servers: vec!["https://as.example.com"],
//!     bearer_methods: vec!["header"],
//!     ..Metadata::default()
//! };
//! assert_eq!(
//!     metadata.json(),
//!     r#"{"authorization_servers":["https://as.example.com"],"bearer_methods_supported":["header"],"resource":"https://api.example.com/orders"}"#
//! );
//! ```

use serde_json::{Map, Value};
use url::Url;

/// The path prefix that is inserted between host and path (RFC 9728 §3).
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// Whether a text may be a resource identifier (RFC 9728 §1.2): an `https` URL with a host and without a fragment. It
/// must also be printable ASCII without quotes, because it is sent in a header, and have no user and password.
pub fn is_identifier(text: &str) -> bool {
    let printable = text
        .bytes()
        .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b'#'));
    printable
        && text.starts_with("https://")
        && Url::parse(text).is_ok_and(|url| {
            url.has_host() && url.username().is_empty() && url.password().is_none()
        })
}

/// The scheme, host and port of the resource with this identifier. `None` if the identifier is invalid.
pub fn origin(identifier: &str) -> Option<&str> {
    if !is_identifier(identifier) {
        return None;
    }
    let start = "https://".len();
    let end = identifier[start..]
        .find(['/', '?'])
        .map_or(identifier.len(), |at| start + at);
    Some(&identifier[..end])
}

/// The URL of the metadata of the resource with this identifier (RFC 9728 §3.1). `None` if the identifier is invalid.
pub fn metadata_url(identifier: &str) -> Option<String> {
    let origin = origin(identifier)?;
    let rest = &identifier[origin.len()..];
    // The slash after the host is removed where nothing or a query follows.
    let rest = match rest.strip_prefix('/') {
        Some(after) if after.is_empty() || after.starts_with('?') => after,
        _ => rest,
    };
    Some(format!("{origin}{WELL_KNOWN}{rest}"))
}

/// The metadata of a protected resource (RFC 9728 §2). Empty members are left out, except for `bearer_methods`: an
/// empty list means that no method of RFC 6750 is supported.
#[derive(Debug, Clone, Default)]
pub struct Metadata<'a> {
    /// The resource identifier.
    pub resource: &'a str,
    /// The authorization servers that issue tokens for it, by issuer identifier.
    pub authorization_servers: Vec<&'a str>,
    /// The URL of its own keys.
    pub jwks_uri: Option<&'a str>,
    /// The scopes that it requires.
    pub scopes: Vec<&'a str>,
    /// The supported methods to present a bearer token: `header`, `query` (RFC 6750 §2).
    pub bearer_methods: Vec<&'a str>,
    /// Its name for people.
    pub name: Option<&'a str>,
    /// The URL of its documentation for developers.
    pub documentation: Option<&'a str>,
    /// The URL of its policy on the use of its data.
    pub policy_uri: Option<&'a str>,
    /// The URL of its terms of service.
    pub tos_uri: Option<&'a str>,
    /// Whether certificate-bound tokens are supported and checked (RFC 8705 §3).
    pub certificate_bound: bool,
    /// The accepted signature algorithms for DPoP proofs (RFC 9449).
    pub dpop_algorithms: Vec<&'a str>,
    /// Whether a token must be bound to a key by DPoP.
    pub dpop_required: bool,
}

impl Metadata<'_> {
    /// The metadata as JSON (RFC 9728 §3.2).
    pub fn json(&self) -> String {
        let mut document = Map::new();
        let mut say = |name: &str, value: Value| {
            document.insert(name.to_owned(), value);
        };
        say("resource", self.resource.into());
        say(
            "bearer_methods_supported",
            self.bearer_methods.as_slice().into(),
        );
        for (name, list) in [
            ("authorization_servers", &self.authorization_servers),
            ("scopes_supported", &self.scopes),
            ("dpop_signing_alg_values_supported", &self.dpop_algorithms),
        ] {
            if !list.is_empty() {
                say(name, list.as_slice().into());
            }
        }
        for (name, text) in [
            ("jwks_uri", self.jwks_uri),
            ("resource_name", self.name),
            ("resource_documentation", self.documentation),
            ("resource_policy_uri", self.policy_uri),
            ("resource_tos_uri", self.tos_uri),
        ] {
            if let Some(text) = text {
                say(name, text.into());
            }
        }
        for (name, holds) in [
            (
                "tls_client_certificate_bound_access_tokens",
                self.certificate_bound,
            ),
            ("dpop_bound_access_tokens_required", self.dpop_required),
        ] {
            if holds {
                say(name, true.into());
            }
        }
        Value::Object(document).to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn metadata_is_between_host_and_path() {
        for (identifier, url) in [
            (
                "https://a.example",
                "https://a.example/.well-known/oauth-protected-resource",
            ),
            (
                "https://a.example/",
                "https://a.example/.well-known/oauth-protected-resource",
            ),
            (
                "https://a.example:8443/b/c",
                "https://a.example:8443/.well-known/oauth-protected-resource/b/c",
            ),
            (
                "https://a.example/b/",
                "https://a.example/.well-known/oauth-protected-resource/b/",
            ),
            (
                "https://a.example?b=c",
                "https://a.example/.well-known/oauth-protected-resource?b=c",
            ),
            (
                "https://a.example/?b=/c",
                "https://a.example/.well-known/oauth-protected-resource?b=/c",
            ),
            (
                "https://[::1]/b",
                "https://[::1]/.well-known/oauth-protected-resource/b",
            ),
        ] {
            assert_eq!(metadata_url(identifier).as_deref(), Some(url));
        }
    }

    #[test]
    fn what_identifies_nothing_is_refused() {
        for text in [
            "",
            "api",
            "http://a.example",
            "https://",
            "https:a.example",
            "https://a.example/#b",
            "https://a.example/\"b",
            "https://a.example/b c",
            "https://a.example/\r\nX: y",
            "https://user@a.example",
            "https://a.exämple",
        ] {
            assert!(!is_identifier(text), "{text}");
            assert_eq!(metadata_url(text), None);
        }
    }

    #[test]
    fn the_document_says_what_is_known() {
        let metadata = Metadata {
            resource: "https://a.example",
            authorization_servers: vec!["https://one.example", "https://two.example"],
            jwks_uri: Some("https://a.example/jwks"),
            scopes: vec!["read", "write"],
            bearer_methods: vec!["header", "query"],
            name: Some("Orders \"and\" more"),
            documentation: Some("https://a.example/docs"),
            policy_uri: Some("https://a.example/policy"),
            tos_uri: Some("https://a.example/tos"),
            certificate_bound: true,
            dpop_algorithms: vec!["ES256"],
            dpop_required: true,
        };
        let document: serde_json::Value = serde_json::from_str(&metadata.json()).unwrap();
        assert_eq!(
            document,
            serde_json::json!({
                "resource": "https://a.example",
                "authorization_servers": ["https://one.example", "https://two.example"],
                "jwks_uri": "https://a.example/jwks",
                "scopes_supported": ["read", "write"],
                "bearer_methods_supported": ["header", "query"],
                "resource_name": "Orders \"and\" more",
                "resource_documentation": "https://a.example/docs",
                "resource_policy_uri": "https://a.example/policy",
                "resource_tos_uri": "https://a.example/tos",
                "tls_client_certificate_bound_access_tokens": true,
                "dpop_signing_alg_values_supported": ["ES256"],
                "dpop_bound_access_tokens_required": true
            })
        );
    }

    #[test]
    fn what_is_not_known_is_not_said_but_that_no_method_is_supported() {
        let metadata = Metadata {
            resource: "https://a.example",
            ..Metadata::default()
        };
        assert_eq!(
            metadata.json(),
            r#"{"bearer_methods_supported":[],"resource":"https://a.example"}"#
        );
    }

    proptest! {
        #[test]
        fn no_text_breaks_out_of_a_header(text in "(https://)?\\PC*") {
            if let Some(url) = metadata_url(&text) {
                prop_assert!(url.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"'));
            }
        }
    }
}
