//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Parser;

/// A small OAuth authorization server, to try phantom-token with and to test it against.
///
/// It issues opaque access tokens, introspects them (RFC 7662), revokes them (RFC 7009) and signs the JWTs behind
/// them with a key made at the start. Everything is kept in memory. Not for production: the endpoints /knobs and
/// /stats, made for tests, ask for no credentials.
#[derive(Parser)]
#[command(version)]
pub struct Options {
    /// Address and port to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,

    /// The issuer: `iss` of the JWTs, and the base of the URLs in the metadata. Derived from the listen address
    /// when not given.
    #[arg(long, value_name = "URL")]
    pub issuer: Option<String>,

    /// A client and its secret; repeatable. The id ends at the first colon.
    #[arg(
        long = "client",
        value_name = "ID:SECRET",
        default_value = "gateway:gateway-secret"
    )]
    pub clients: Vec<Pair>,

    /// The one user that the password grant knows.
    #[arg(long, value_name = "NAME:PASSWORD", default_value = "alice:wonderland")]
    pub user: Pair,

    /// Lifetime of an access token, unless the token request says otherwise.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub token_lifetime: i64,

    /// Certificate chain in PEM: serve HTTPS, with HTTP/1.1 and HTTP/2 by ALPN. Without it: HTTP/1.1, and HTTP/2
    /// with prior knowledge.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_certificate: Option<PathBuf>,

    /// Private key in PEM that belongs to the certificate.
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    pub tls_key: Option<PathBuf>,

    /// A bearer token that the introspection endpoint accepts as client authentication too.
    #[arg(long, value_name = "TOKEN")]
    pub bearer: Option<String>,

    /// Write the port to this file, atomically, once the server listens.
    #[arg(long, value_name = "FILE")]
    pub port_file: Option<PathBuf>,
}

/// A name and its secret, written `NAME:SECRET`. The secret may contain colons.
#[derive(Clone)]
pub struct Pair {
    pub name: String,
    pub secret: String,
}

impl FromStr for Pair {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once(':') {
            Some((name, secret)) if !name.is_empty() => Ok(Self {
                name: name.to_owned(),
                secret: secret.to_owned(),
            }),
            _ => Err("must be a name and a secret with a colon between them"),
        }
    }
}
