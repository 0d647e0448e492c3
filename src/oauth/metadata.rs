//! Authorization server metadata (RFC 8414; OpenID Connect Discovery 1.0 §3).

use serde_json::{Map, Value};
use url::Url;

use crate::jwt::object;

/// The parts of an authorization server's metadata that are used here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// `introspection_endpoint`
    pub introspection_endpoint: Option<Url>,
    /// `token_endpoint`
    pub token_endpoint: Option<Url>,
    /// `jwks_uri`
    pub jwks_uri: Option<Url>,
    /// `introspection_endpoint_auth_methods_supported`
    pub introspection_endpoint_auth_methods_supported: Option<Vec<String>>,
    /// `token_endpoint_auth_methods_supported`
    pub token_endpoint_auth_methods_supported: Option<Vec<String>>,
    /// `introspection_signing_alg_values_supported` (RFC 9701 §7)
    pub introspection_signing_alg_values_supported: Option<Vec<String>>,
    /// `grant_types_supported`
    pub grant_types_supported: Option<Vec<String>>,
    /// Whether it binds access tokens to keys of their senders: to the keys of DPoP proofs
    /// (`dpop_signing_alg_values_supported`, RFC 9449 §5.1) or to certificates
    /// (`tls_client_certificate_bound_access_tokens`, RFC 8705 §3.3).
    pub binds_tokens: bool,
}

/// The reason why metadata can't be used. It contains nothing from the server except names of members.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MetadataError(String);

/// The URLs of an issuer's metadata, in the order in which to try them: RFC 8414 §3.1 puts the well-known part between
/// host and path, OpenID Connect Discovery §4 after the path.
pub fn well_known(issuer: &Url) -> [Url; 2] {
    let path = issuer.path().trim_end_matches('/').to_owned();
    [
        format!("/.well-known/oauth-authorization-server{path}"),
        format!("{path}/.well-known/openid-configuration"),
    ]
    .map(|path| {
        let mut url = issuer.clone();
        url.set_path(&path);
        url.set_query(None);
        url
    })
}

impl Metadata {
    /// Reads metadata that came from a [`well_known`] place of `issuer`.
    ///
    /// # Errors
    /// When it is not a JSON object with unique names, when its `issuer` is not exactly `issuer` (RFC 8414 §3.3), or
    /// when a member is not what it should be. An `https` issuer has no `http` endpoints.
    pub fn read(body: &[u8], issuer: &str) -> Result<Self, MetadataError> {
        let members = object(body).map_err(|_| {
            MetadataError(
                "it is not a JSON object with unique names and whole numbers of at most 64 bits"
                    .to_owned(),
            )
        })?;
        match members.get("issuer") {
            Some(Value::String(said)) if said == issuer => {}
            Some(Value::String(said)) => {
                return Err(MetadataError(format!(
                    "its issuer is {:?}: set issuer to exactly that, if it is the one that you mean",
                    said.chars().take(200).collect::<String>()
                )));
            }
            _ => {
                return Err(MetadataError(
                    "it has no member issuer, so it is no metadata of an authorization server (RFC 8414 §2)"
                        .to_owned(),
                ));
            }
        }
        let secure = issuer.starts_with("https:");
        let url = |name| url(&members, name, secure);
        Ok(Metadata {
            introspection_endpoint: url("introspection_endpoint")?,
            token_endpoint: url("token_endpoint")?,
            jwks_uri: url("jwks_uri")?,
            introspection_endpoint_auth_methods_supported: list(
                &members,
                "introspection_endpoint_auth_methods_supported",
            )?,
            token_endpoint_auth_methods_supported: list(
                &members,
                "token_endpoint_auth_methods_supported",
            )?,
            introspection_signing_alg_values_supported: list(
                &members,
                "introspection_signing_alg_values_supported",
            )?,
            grant_types_supported: list(&members, "grant_types_supported")?,
            binds_tokens: list(&members, "dpop_signing_alg_values_supported")?.is_some()
                || switch(&members, "tls_client_certificate_bound_access_tokens")?,
        })
    }
}

fn url(
    members: &Map<String, Value>,
    name: &str,
    secure: bool,
) -> Result<Option<Url>, MetadataError> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => {
            let url = Url::parse(text)
                .ok()
                .filter(|url| url.has_host() && url.username().is_empty())
                .filter(|url| url.password().is_none() && url.fragment().is_none())
                .filter(|url| url.scheme() == "https" || (!secure && url.scheme() == "http"));
            match url {
                Some(url) => Ok(Some(url)),
                None => Err(MetadataError(format!(
                    "its member {name} is no {} URL",
                    if secure { "https" } else { "http or https" }
                ))),
            }
        }
        Some(_) => Err(MetadataError(format!("its member {name} is not a string"))),
    }
}

fn switch(members: &Map<String, Value>, name: &str) -> Result<bool, MetadataError> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(on)) => Ok(*on),
        Some(_) => Err(MetadataError(format!(
            "its member {name} is not true or false"
        ))),
    }
}

fn list(members: &Map<String, Value>, name: &str) -> Result<Option<Vec<String>>, MetadataError> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Array(values)) => values
            .iter()
            .map(|value| value.as_str().map(str::to_owned))
            .collect::<Option<Vec<_>>>()
            .map(Some)
            .ok_or_else(|| MetadataError(format!("its member {name} is not a list of strings"))),
        Some(_) => Err(MetadataError(format!(
            "its member {name} is not a list of strings"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ISSUER: &str = "https://as.example.com/tenant";

    fn places(issuer: &str) -> [String; 2] {
        well_known(&Url::parse(issuer).unwrap()).map(String::from)
    }

    fn refused(body: &str) -> String {
        Metadata::read(body.as_bytes(), ISSUER)
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn metadata_is_where_the_two_standards_put_it() {
        for issuer in ["https://as.example.com", "https://as.example.com/"] {
            assert_eq!(
                places(issuer),
                [
                    "https://as.example.com/.well-known/oauth-authorization-server",
                    "https://as.example.com/.well-known/openid-configuration",
                ]
            );
        }
        for issuer in ["https://as.example.com/a/b", "https://as.example.com/a/b/"] {
            assert_eq!(
                places(issuer),
                [
                    "https://as.example.com/.well-known/oauth-authorization-server/a/b",
                    "https://as.example.com/a/b/.well-known/openid-configuration",
                ]
            );
        }
    }

    #[test]
    fn what_is_of_use_is_read_and_what_is_not_is_let_be() {
        let metadata = Metadata::read(
            br#"{
                "issuer": "https://as.example.com/tenant",
                "introspection_endpoint": "https://as.example.com/introspect",
                "token_endpoint": "https://as.example.com/token",
                "jwks_uri": null,
                "token_endpoint_auth_methods_supported": ["private_key_jwt"],
                "grant_types_supported": [],
                "claims_supported": 7
            }"#,
            ISSUER,
        )
        .unwrap();
        assert_eq!(
            metadata.introspection_endpoint.as_ref().map(Url::as_str),
            Some("https://as.example.com/introspect")
        );
        assert_eq!(metadata.jwks_uri, None);
        assert_eq!(
            metadata.token_endpoint_auth_methods_supported,
            Some(vec!["private_key_jwt".to_owned()])
        );
        assert_eq!(metadata.grant_types_supported, Some(Vec::new()));
        assert_eq!(metadata.introspection_signing_alg_values_supported, None);
    }

    #[test]
    fn an_issuer_that_is_not_exactly_the_one_asked_for_is_refused() {
        for issuer in [
            "https://as.example.com/tenant/",
            "https://as.example.com/Tenant",
            "https://AS.example.com/tenant",
            "https://as.example.com",
            "https://evil.example.com/tenant",
        ] {
            let message = refused(&format!(r#"{{"issuer":"{issuer}"}}"#));
            assert!(message.contains(issuer), "{message}");
        }
        for body in ["{}", r#"{"issuer":7}"#] {
            assert!(refused(body).contains("no member issuer"));
        }
    }

    #[test]
    fn what_is_not_what_it_should_be_is_refused_and_named() {
        let with = |member: &str| refused(&format!(r#"{{"issuer":"{ISSUER}",{member}}}"#));
        for value in [
            "7",
            r#""/introspect""#,
            r#""http://as.example.com/introspect""#,
            r#""https://user@as.example.com/""#,
            r#""https://as.example.com/#x""#,
            r#""file:///etc/passwd""#,
        ] {
            let message = with(&format!(r#""introspection_endpoint":{value}"#));
            assert!(message.contains("introspection_endpoint"), "{message}");
        }
        assert!(with(r#""grant_types_supported":"a""#).contains("list of strings"));
        assert!(with(r#""grant_types_supported":[1]"#).contains("list of strings"));
        for body in ["", "[]", "x", r#"{"issuer":"a","issuer":"b"}"#] {
            assert!(refused(body).contains("not a JSON object"));
        }
    }
}
