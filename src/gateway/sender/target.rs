//! The URI of a request as its client sees it, reconstructed from the parts of the request that a server knows (RFC
//! 9110 §7.1).

use std::fmt;

use super::SenderError;
use super::uri::{has_path, normalized, push_host};

/// The URI of a request, with which the `htu` of a proof is compared (RFC 9449 §4.3).
#[derive(Clone, Copy)]
pub enum Uri<'a> {
    /// The URI from a trusted source other than the request: `https://api.example.com/orders`. Everything after the
    /// path is ignored.
    Whole(&'a [u8]),
    /// A URI that the host has composed of the client's `Host` and the request's target. If no path follows directly
    /// after its host, the `Host` was invalid. Such a URI could make a proof for one path valid for another.
    Composed(&'a [u8]),
    /// The parts of the URI, as the request has them.
    Of(Target<'a>),
}

/// The parts of a request's URI, not yet joined: a `Host` of `api.example.com?` must not turn the path into a query.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// `http` or `https`, by the type of the connection.
    pub scheme: &'a [u8],
    /// The host that the client has named, unchanged, as `HOST[:PORT]`: in an absolute request target, else in
    /// `:authority` or `Host`. `None` when it has named none.
    pub authority: Option<&'a [u8]>,
    /// The host that selected the server: that of `authority` in lower case, without port and final dot; or the
    /// server's own name, where the client has named no host.
    pub host: &'a [u8],
    /// The port that the client is connected to. It is used only where the client has named no host.
    pub port: u16,
    /// Path and query, unchanged.
    pub path: &'a [u8],
}

impl fmt::Debug for Uri<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A query may hold a token.
        f.write_str("Uri(..)")
    }
}

impl fmt::Debug for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Target(..)")
    }
}

impl Uri<'_> {
    /// The URI in normal form. `None` when no proof can match it.
    ///
    /// # Errors
    /// [`SenderError::Host`] when the host that the client has named is invalid.
    pub(super) fn normalized(&self) -> Result<Option<String>, SenderError> {
        match self {
            Uri::Whole(uri) => Ok(normalized(uri)),
            Uri::Composed(uri) if !uri.is_empty() && !has_path(uri) => Err(SenderError::Host),
            Uri::Composed(uri) => Ok(normalized(uri)),
            Uri::Of(target) => target.normalized(),
        }
    }
}

impl<'a> Target<'a> {
    /// The parts of a request to a server that serves every host. `target` is the request line's target or `:path`.
    /// `hosts` are the `Host` headers, or `:authority`; they are ignored where the target names a host itself (RFC 9112
    /// §3.2.2).
    pub fn new(
        scheme: &'a [u8],
        mut hosts: impl Iterator<Item = &'a [u8]>,
        target: &'a [u8],
    ) -> Self {
        let named = target.windows(3).position(|part| part == b"://");
        let (authority, path) = match named.filter(|_| !target.starts_with(b"/")) {
            Some(at) => {
                let rest = &target[at + 3..];
                let end = rest.iter().position(|byte| b"/?#".contains(byte));
                let (authority, path) = rest.split_at(end.unwrap_or(rest.len()));
                (Some(authority), path)
            }
            None => match (hosts.next(), hosts.next()) {
                (Some(host), None) => (Some(host), target),
                // Several are as invalid as none.
                _ => (None, target),
            },
        };
        let host = authority.and_then(|authority| std::str::from_utf8(authority).ok());
        Target {
            scheme,
            authority,
            host: host.map_or(b"", |host| host_of(host).as_bytes()),
            port: 0,
            path,
        }
    }
}

impl Target<'_> {
    fn normalized(&self) -> Result<Option<String>, SenderError> {
        let authority = self.authority().ok_or(SenderError::Host)?;
        let uri = [self.scheme, b"://", authority.as_bytes(), self.path].concat();
        Ok(normalized(&uri))
    }

    /// The host and port that the client has named, if they are valid and contain nothing else.
    fn authority(&self) -> Option<String> {
        let Some(authority) = self.authority else {
            let host = std::str::from_utf8(self.host).ok()?;
            let port = push_host(&mut String::new(), host)?;
            // The server's name has no port.
            return port
                .is_none()
                .then(|| format!("{host}:{port}", port = self.port));
        };
        let authority = std::str::from_utf8(authority).ok()?;
        push_host(&mut String::new(), authority)?;
        // The named host must be the one that selected the server; another header may not change it.
        host_of(authority)
            .as_bytes()
            .eq_ignore_ascii_case(self.host)
            .then(|| authority.to_owned())
    }
}

/// The host of an authority, without port and final dot.
fn host_of(authority: &str) -> &str {
    let end = authority.rfind(']').map_or(0, |at| at + 1);
    let end = authority[end..]
        .find(':')
        .map_or(authority.len(), |at| end + at);
    let host = &authority[..end];
    host.strip_suffix('.').unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TARGET: Target<'static> = Target {
        scheme: b"https",
        authority: Some(b"api.example.com"),
        host: b"api.example.com",
        port: 8443,
        path: b"/orders?a=b",
    };

    fn of(target: Target<'_>) -> Result<Option<String>, SenderError> {
        Uri::Of(target).normalized()
    }

    #[test]
    fn the_uri_is_what_the_client_has_asked_for() {
        for (authority, host, path, truth) in [
            (
                "api.example.com",
                "api.example.com",
                "/",
                "https://api.example.com/",
            ),
            (
                "API.example.com:443",
                "api.example.com",
                "/a?b",
                "https://api.example.com/a",
            ),
            (
                "api.example.com:",
                "api.example.com",
                "/a#b",
                "https://api.example.com/a",
            ),
            (
                "api.example.com:8443",
                "api.example.com",
                "/a",
                "https://api.example.com:8443/a",
            ),
            (
                "api.example.com.",
                "api.example.com",
                "/a",
                "https://api.example.com./a",
            ),
            (
                "api.example.com.:80",
                "api.example.com",
                "/a",
                "https://api.example.com.:80/a",
            ),
            ("[::1]", "[::1]", "/a", "https://[::1]/a"),
            (
                "[2001:DB8::0:1]:8443",
                "[2001:db8::0:1]",
                "/a",
                "https://[2001:db8::1]:8443/a",
            ),
            (
                "127.0.0.1:8443",
                "127.0.0.1",
                "/%7ea",
                "https://127.0.0.1:8443/~a",
            ),
            // An absolute target without a path.
            ("h", "h", "?a=/b", "https://h/"),
            ("h", "h", "", "https://h/"),
        ] {
            let target = Target {
                authority: Some(authority.as_bytes()),
                host: host.as_bytes(),
                path: path.as_bytes(),
                ..TARGET
            };
            assert_eq!(of(target), Ok(Some(truth.to_owned())), "{authority}{path}");
        }
    }

    #[test]
    fn without_a_host_of_the_client_it_is_that_of_the_server_with_its_port() {
        for (scheme, host, port, truth) in [
            ("https", "gateway", 8443, "https://gateway:8443/a"),
            ("https", "gateway", 443, "https://gateway/a"),
            ("http", "gateway", 443, "http://gateway:443/a"),
            ("http", "gateway", 80, "http://gateway/a"),
        ] {
            let target = Target {
                scheme: scheme.as_bytes(),
                authority: None,
                host: host.as_bytes(),
                port,
                path: b"/a",
            };
            assert_eq!(of(target), Ok(Some(truth.to_owned())));
        }
        for host in ["", "gateway:80", "~^api", "a b", "a/b", "a?"] {
            let target = Target {
                authority: None,
                host: host.as_bytes(),
                ..TARGET
            };
            assert_eq!(of(target), Err(SenderError::Host), "{host}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused_and_not_compared() {
        for authority in [
            "",
            ":443",
            "api.example.com?",
            "api.example.com#",
            "api.example.com/",
            "api.example.com/x",
            "api.example.com:80?",
            "api.example.com:443#x",
            "api.example.com:443/x",
            "api.example.com:x",
            "api.example.com:0",
            "api.example.com:65536",
            "api.example.com:80:80",
            "user@api.example.com",
            "@api.example.com",
            "api.example.com@evil.example",
            "api.example.com:80@evil.example",
            "api.example.com\\",
            "api.example.com ",
            " api.example.com",
            "api.example.com\0",
            "api.example.com\t",
            "api.example.com,evil.example?",
            "api%2Eexample.com",
            "[api.example.com]",
            "api.example.com]",
            "[::1",
            "[::1]x",
            "äpi.example.com",
        ] {
            let target = Target {
                authority: Some(authority.as_bytes()),
                ..TARGET
            };
            assert_eq!(of(target), Err(SenderError::Host), "{authority:?}");
        }
        let target = Target {
            authority: Some(b"api.example.com\xff"),
            ..TARGET
        };
        assert_eq!(of(target), Err(SenderError::Host));
    }

    #[test]
    fn a_request_says_itself_what_it_is_for() {
        for (hosts, target, uri) in [
            (
                &["API.example.com:443"][..],
                "/a?b",
                Some("https://api.example.com/a"),
            ),
            (
                &["h"],
                "http://api.example.com:8443/a",
                Some("https://api.example.com:8443/a"),
            ),
            (
                &[],
                "https://api.example.com",
                Some("https://api.example.com/"),
            ),
            (&["h"], "/a?b=http://other/", Some("https://h/a")),
            (&[], "/a", None),
            (&["h", "h"], "/a", None),
            (&["h?"], "/a", None),
            (&["h"], "http://u@h/a", None),
        ] {
            let hosts = hosts.iter().map(|host| host.as_bytes());
            let target = Target::new(b"https", hosts, target.as_bytes());
            match uri {
                Some(uri) => assert_eq!(of(target), Ok(Some(uri.to_owned()))),
                None => assert_eq!(of(target), Err(SenderError::Host)),
            }
        }
    }

    #[test]
    fn a_host_that_did_not_choose_the_server_is_refused() {
        for (authority, host) in [
            ("evil.example", "api.example.com"),
            ("api.example.com.evil.example", "api.example.com"),
            ("api.example.com", "evil.example"),
            ("api.example.com..", "api.example.com"),
            ("[::1]", "[::2]"),
            ("api.example.com", ""),
        ] {
            let target = Target {
                authority: Some(authority.as_bytes()),
                host: host.as_bytes(),
                ..TARGET
            };
            assert_eq!(of(target), Err(SenderError::Host), "{authority} {host}");
        }
    }

    proptest! {
        #[test]
        fn whatever_the_client_says_the_path_stays_its_path(
            authority in "[a-z\\[\\]:@/?#.0-9 -]{0,12}",
            path in "/[a-z]{0,5}",
        ) {
            let host = authority.split(':').next().unwrap_or_default();
            for host in [host, host.trim_end_matches('.'), "[::1]"] {
                let target = Target {
                    authority: Some(authority.as_bytes()),
                    host: host.as_bytes(),
                    path: path.as_bytes(),
                    ..TARGET
                };
                if let Ok(Some(uri)) = of(target) {
                    let (origin, rest) = uri["https://".len()..].split_once('/').unwrap();
                    prop_assert_eq!(rest, &path[1..]);
                    prop_assert!(!origin.contains(['@', '?', '#', ' ']));
                }
            }
        }
    }
}
