//! URLs of settings: endpoints, issuers, Unix sockets. No error repeats a URL: it may contain a password.

use std::fmt;
use std::os::unix::net::SocketAddr;
use std::path::PathBuf;

use url::{Host, Position, Url};

use super::rules::Invalid;
use crate::oauth::{Endpoint, Purpose};

/// Reads the URL of an endpoint for this purpose.
pub(super) fn endpoint_for(purpose: Purpose, value: &str) -> Result<Endpoint, Invalid> {
    located(purpose, value)
}

/// An issuer identifier (RFC 8414 §2): a URL without a query, exactly as it is written.
#[derive(Clone, PartialEq, Eq)]
pub struct Issuer {
    text: String,
    place: Endpoint,
}

impl Issuer {
    pub(super) fn parse(value: &str) -> Result<Self, Invalid> {
        let place = Endpoint::new(Purpose::Metadata, endpoint(value)?);
        if place.url.query().is_some() {
            return Err("has a query (?…), which no issuer identifier has: remove it".into());
        }
        Ok(Issuer {
            text: value.to_owned(),
            place,
        })
    }

    /// The identifier.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.place.fmt(f)
    }
}

/// Reads the URLs of one endpoint at several servers, separated by spaces. No error repeats them.
pub(super) fn endpoints(value: &str) -> Result<Vec<Endpoint>, Invalid> {
    let values: Vec<_> = value.split(' ').collect();
    if values.len() < 2 || values.contains(&"") {
        return located(Purpose::Introspection, value).map(|endpoint| vec![endpoint]);
    }
    let mut urls = Vec::with_capacity(values.len());
    for (index, value) in values.into_iter().enumerate() {
        let url = located(Purpose::Introspection, value).map_err(|refusal| {
            format!(
                "is a list, separated by spaces, whose URL number {} {refusal}",
                index + 1
            )
        })?;
        if urls.contains(&url) {
            return Err(twice(index));
        }
        urls.push(url);
    }
    Ok(urls)
}

/// Checks an endpoint that was set through a field: its text must be read as the same endpoint.
pub(super) fn check_endpoint(purpose: Purpose, endpoint: &Endpoint) -> Result<(), Invalid> {
    let text = match &endpoint.socket {
        Some(path) => format!(
            "unix:{}:{}",
            path.display(),
            &endpoint.url[Position::BeforePath..]
        ),
        None => endpoint.url.to_string(),
    };
    match located(purpose, &text)? == *endpoint {
        true => Ok(()),
        false => Err("is not as it would be read: set it by its name, with Config::set".into()),
    }
}

/// Checks the addresses of the introspection endpoint by the rules for a list that is read.
pub(super) fn check_endpoints(endpoints: &[Endpoint]) -> Result<(), Invalid> {
    for (index, endpoint) in endpoints.iter().enumerate() {
        check_endpoint(Purpose::Introspection, endpoint)?;
        if endpoints[..index].contains(endpoint) {
            return Err(twice(index));
        }
    }
    Ok(())
}

fn twice(index: usize) -> Invalid {
    let number = index + 1;
    format!("is a list whose URL number {number} stands in it already: remove it").into()
}

/// Reads the location of an endpoint: a URL, or a Unix socket and the URL to request there.
fn located(purpose: Purpose, value: &str) -> Result<Endpoint, Invalid> {
    match unix(value)? {
        Some((socket, url)) => Ok(Endpoint {
            socket: Some(socket),
            ..Endpoint::new(purpose, url)
        }),
        None => endpoint(value).map(|url| Endpoint::new(purpose, url)),
    }
}

/// Reads an endpoint's URL. No error repeats it: it may contain a password.
pub(super) fn endpoint(value: &str) -> Result<Url, Invalid> {
    if value.is_empty() {
        return Err("is empty: set it to a URL such as https://as.example.com/introspect".into());
    }
    // The parser below would silently drop or rewrite these.
    if value
        .chars()
        .any(|char| char.is_control() || char.is_whitespace() || char == '\\')
    {
        return Err(
            "has a space, a control character or a backslash in it: remove or encode it".into(),
        );
    }
    let after_scheme = ["http://", "https://"].into_iter().find_map(|scheme| {
        let (start, rest) = value.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    });
    let Some(after_scheme) = after_scheme else {
        return Err(
            "is not an http or https URL: write it as https://as.example.com/introspect".into(),
        );
    };
    // `https:///introspect`: the parser would take the path as the host.
    if after_scheme.starts_with(['/', '?', '#']) {
        return Err("has no host: write it as https://as.example.com/introspect".into());
    }
    let url = Url::parse(value).map_err(|error| {
        format!("is not a URL ({error}): write it as https://as.example.com/introspect")
    })?;
    if !url.username().is_empty()
        || url.password().is_some()
        || authority(after_scheme).contains('@')
    {
        return Err(
            "has a user or a password in it: remove them, and set client_id and client_secret"
                .into(),
        );
    }
    // The parser accepts names that no resolver knows: above all `$host`, since variables are not evaluated here.
    if let Some(Host::Domain(name)) = url.host()
        && !is_host_name(name)
    {
        return Err(
            "has a character in its host that no host name has (variables are not evaluated): write the name \
             itself".into(),
        );
    }
    if authority(after_scheme).contains('%') {
        return Err(
            "has a percent sign in its host, which would be read as another name: write the name itself".into(),
        );
    }
    if url.fragment().is_some() {
        return Err("has a fragment (#…), which no server ever sees: remove it".into());
    }
    if url.port() == Some(0) {
        return Err("has port 0, which nothing listens on: set the right port".into());
    }
    Ok(url)
}

/// Whether a name that the URL parser accepted can be a host name for a resolver.
pub(super) fn is_host_name(name: &str) -> bool {
    name.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
}

fn authority(after_scheme: &str) -> &str {
    let end = after_scheme
        .find(['/', '?', '#'])
        .unwrap_or(after_scheme.len());
    &after_scheme[..end]
}

pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.to_canonical().is_loopback(),
        Some(Host::Domain(name)) => {
            let name = name.strip_suffix('.').unwrap_or(name);
            name == "localhost" || name.ends_with(".localhost")
        }
        None => false,
    }
}

/// Reads a Unix socket and the URL to request there, if the value has that form. The syntax is nginx's, with or without
/// `http://` before it. No error repeats the value.
pub(super) fn unix(value: &str) -> Result<Option<(PathBuf, Url)>, Invalid> {
    let starts = |prefix: &str| {
        let (start, rest) = value.split_at_checked(prefix.len())?;
        start.eq_ignore_ascii_case(prefix).then_some(rest)
    };
    if starts("https://unix:").is_some() {
        return Err(
            "is https over a Unix socket, which nobody can listen in on: write it as \
             unix:/run/as.sock:/introspect and have the server speak http there"
                .into(),
        );
    }
    let Some(rest) = starts("unix:").or_else(|| starts("http://unix:")) else {
        return Ok(None);
    };
    if !rest.starts_with('/') {
        return Err(
            "has no absolute path of a socket after unix: write it as unix:/run/as.sock:/introspect".into(),
        );
    }
    let Some((path, target)) = rest.split_once(':') else {
        return Err(
            "does not say what to ask for at the socket: add a colon and the path, as in \
             unix:/run/as.sock:/introspect"
                .into(),
        );
    };
    if !target.starts_with('/') {
        return Err(
            "has no path after the socket that starts with a slash: write it as unix:/run/as.sock:/introspect".into(),
        );
    }
    if SocketAddr::from_pathname(path).is_err() {
        return Err(
            "has a path of a socket that is longer than the system allows (107 bytes on Linux): put the socket \
             elsewhere, or a symbolic link to its directory".into(),
        );
    }
    let url = endpoint(&format!("http://localhost{target}"))?;
    Ok(Some((path.into(), url)))
}
