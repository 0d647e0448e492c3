//! What is protected, as clients and authorization servers know it: its identifier, and the metadata that tells a client
//! where to get a token (RFC 9728). Pure.
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

/// What is put between host and path (RFC 9728 §3).
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

/// Whether a text may identify what is protected (RFC 9728 §1.2): an `https` URL with a host and without a fragment. Of
/// printable ASCII without quotes, for it is sent in a header, and without user and password.
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

/// Scheme, host and port of what has this identifier. `None` if it is no identifier.
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

/// Where the metadata of what has this identifier is (RFC 9728 §3.1). `None` if it is no identifier.
pub fn metadata_url(identifier: &str) -> Option<String> {
    let origin = origin(identifier)?;
    let rest = &identifier[origin.len()..];
    // The slash that ends the host goes, where nothing or a query follows.
    let rest = match rest.strip_prefix('/') {
        Some(after) if after.is_empty() || after.starts_with('?') => after,
        _ => rest,
    };
    Some(format!("{origin}{WELL_KNOWN}{rest}"))
}

/// The metadata of what is protected (RFC 9728 §2). What is empty is left out, but for the ways to present a token: none
/// means that there is none of RFC 6750.
#[derive(Debug, Clone, Default)]
pub struct Metadata<'a> {
    /// Its identifier.
    pub resource: &'a str,
    /// Who issues tokens for it, by issuer identifier.
    pub authorization_servers: Vec<&'a str>,
    /// Where its own keys are.
    pub jwks_uri: Option<&'a str>,
    /// Scopes that it asks for.
    pub scopes: Vec<&'a str>,
    /// How a bearer token may be presented: `header`, `query` (RFC 6750 §2).
    pub bearer_methods: Vec<&'a str>,
    /// Its name, for people.
    pub name: Option<&'a str>,
    /// Where people can read how to use it.
    pub documentation: Option<&'a str>,
    /// Where people can read what may be done with its data.
    pub policy_uri: Option<&'a str>,
    /// Where people can read its terms.
    pub tos_uri: Option<&'a str>,
    /// Whether tokens that are bound to a certificate are checked (RFC 8705 §3).
    pub certificate_bound: bool,
    /// What DPoP proofs may be signed with (RFC 9449).
    pub dpop_algorithms: Vec<&'a str>,
    /// Whether a token must be bound to a key by DPoP.
    pub dpop_required: bool,
}

impl Metadata<'_> {
    /// The document (RFC 9728 §3.2).
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
