//! The methods of client authentication (RFC 6749 §2.3), by their registered names.

use strum::{IntoStaticStr, VariantArray};

/// How the client authenticates to the authorization server (RFC 6749 §2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "snake_case")]
#[non_exhaustive]
pub enum ClientAuth {
    /// `client_secret_basic`.
    ClientSecretBasic,
    /// `client_secret_post`.
    ClientSecretPost,
    /// `client_secret_jwt`: an assertion signed with the client secret (OpenID Connect Core 1.0 §9).
    ClientSecretJwt,
    /// `private_key_jwt`: an assertion signed with a private key (RFC 7523).
    PrivateKeyJwt,
    /// `tls_client_auth`: a certificate of an authority that the server trusts (RFC 8705 §2.1).
    TlsClientAuth,
    /// `self_signed_tls_client_auth`: a certificate that the server knows (RFC 8705 §2.2).
    SelfSignedTlsClientAuth,
    /// `bearer`: a static bearer token (RFC 7662 §2.1).
    Bearer,
    /// `client_credentials`: a bearer token that is obtained at the token endpoint (RFC 6749 §4.4).
    ClientCredentials,
    /// `none`.
    None,
}

impl ClientAuth {
    pub(crate) const ALL: &'static [ClientAuth] = Self::VARIANTS;

    /// The word in the configuration and in messages.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}
