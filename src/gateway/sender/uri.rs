//! Comparison of URIs (RFC 3986 §6.2.2 and §6.2.3), as needed for the `htu` of a proof (RFC 9449 §4.3).

use std::net::Ipv6Addr;

/// The normal form of a URI of `http` or `https`, without query and fragment. `None` when the text is not a URI, or has
/// a part that no proof may have: a user, bytes that are not allowed in a URI, or a backslash, which some parsers take
/// as a slash.
pub(super) fn normalized(uri: &[u8]) -> Option<String> {
    let end = uri.iter().position(|byte| b"?#".contains(byte));
    let uri = &uri[..end.unwrap_or(uri.len())];
    if !uri
        .iter()
        .all(|&byte| byte.is_ascii_graphic() && byte != b'\\')
    {
        return None;
    }
    // The bytes are ASCII, by the check above.
    let uri = std::str::from_utf8(uri).ok()?;
    let (scheme, rest) = uri.split_once("://")?;
    let (scheme, default_port) = [("http", 80), ("https", 443)]
        .into_iter()
        .find(|(known, _)| scheme.eq_ignore_ascii_case(known))?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));

    let mut normal = String::with_capacity(uri.len() + 8);
    normal.push_str(scheme);
    normal.push_str("://");
    let port = push_host(&mut normal, authority)?;
    let port = port.unwrap_or(default_port);
    if port != default_port {
        normal.push(':');
        normal.push_str(&port.to_string());
    }
    push_path(&mut normal, path)?;
    Some(normal)
}

/// Appends the host of an authority, and returns its port, if it has one.
pub(super) fn push_host(normal: &mut String, authority: &str) -> Option<Option<u16>> {
    let port = if let Some(rest) = authority.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let address: Ipv6Addr = address.parse().ok()?;
        normal.push_str(&format!("[{address}]"));
        port
    } else {
        let (host, port) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
        // No escapes, which no resolvable host name has, and no `@`, so that there is no user.
        let named = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte);
        if host.is_empty() || !host.bytes().all(named) {
            return None;
        }
        normal.push_str(&host.to_ascii_lowercase());
        port
    };
    match port.strip_prefix(':') {
        None if port.is_empty() => Some(None),
        None => None,
        Some("") => Some(None),
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().ok().filter(|&port| port != 0).map(Some)
        }
        Some(_) => None,
    }
}

/// Whether the path of a URI begins directly after its host. A URI that a server composes of a host and the request's
/// target has such a path, unless the host contains a `?` or `#`, which turns the path into a query.
pub(super) fn has_path(uri: &[u8]) -> bool {
    let scheme = uri.windows(3).position(|part| part == b"://");
    scheme
        .and_then(|at| uri[at + 3..].iter().find(|byte| b"/?#".contains(byte)))
        .is_some_and(|&byte| byte == b'/')
}

/// Appends a path: characters are escaped only where that is needed, and dot segments are removed (RFC 3986 §5.2.4).
/// `None` for an ambiguous path: one in which `..` removes a segment that is empty or contains an escaped slash.
/// Servers that merge slashes, or unescape them first, remove another segment: they read `/admin%2Fx/..` as `/admin/`.
/// So a proof for `/` would be valid for `/admin/` too.
fn push_path(normal: &mut String, path: &str) -> Option<()> {
    let start = normal.len();
    let mut segments = path.split('/').skip(1).peekable();
    if segments.peek().is_none() {
        normal.push('/');
    }
    while let Some(segment) = segments.next() {
        let before = normal.len();
        normal.push('/');
        push_segment(normal, segment)?;
        let up = match &normal[before + 1..] {
            "." => 0,
            ".." => 1,
            _ => continue,
        };
        normal.truncate(before);
        if up == 1 {
            let parent = normal[start..].rfind('/').unwrap_or(0);
            let taken = &normal[start + parent..];
            if taken == "/" || taken.contains("%2F") {
                return None;
            }
            normal.truncate(start + parent);
        }
        // A path that ends with a dot segment names a directory.
        if segments.peek().is_none() {
            normal.push('/');
        }
    }
    Some(())
}

fn push_segment(normal: &mut String, segment: &str) -> Option<()> {
    let mut rest = segment.as_bytes().iter();
    while let Some(&byte) = rest.next() {
        let is_escaped = byte == b'%';
        let byte = if is_escaped {
            escaped(rest.next(), rest.next())?
        } else {
            byte
        };
        let unreserved = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        // An escaped reserved character has another meaning than the plain one.
        let reserved = b"!$&'()*+,;=:@".contains(&byte) && !is_escaped;
        if unreserved || reserved {
            normal.push(char::from(byte));
        } else {
            normal.push_str(&format!("%{byte:02X}"));
        }
    }
    Some(())
}

/// The byte that these two hexadecimal digits encode.
pub(super) fn escaped(high: Option<&u8>, low: Option<&u8>) -> Option<u8> {
    let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn normal(uri: &str) -> Option<String> {
        normalized(uri.as_bytes())
    }

    #[test]
    fn what_is_the_same_by_rfc_3986_has_one_normal_form() {
        for (uri, truth) in [
            ("https://api.example.com/a", "https://api.example.com/a"),
            ("HTTPS://API.Example.COM/a", "https://api.example.com/a"),
            ("https://api.example.com:443/a", "https://api.example.com/a"),
            ("https://api.example.com:/a", "https://api.example.com/a"),
            (
                "https://api.example.com:00443/a",
                "https://api.example.com/a",
            ),
            ("http://api.example.com:80", "http://api.example.com/"),
            ("https://api.example.com", "https://api.example.com/"),
            ("https://api.example.com?a=/b", "https://api.example.com/"),
            ("https://api.example.com/a?b#c", "https://api.example.com/a"),
            ("https://api.example.com/a#b?c", "https://api.example.com/a"),
            ("https://h/%7euser/%41%2d", "https://h/~user/A-"),
            ("https://h/%c3%a9", "https://h/%C3%A9"),
            ("https://h/a%2fb", "https://h/a%2Fb"),
            ("https://h/a/./b/../c", "https://h/a/c"),
            ("https://h/a/%2e%2E/b", "https://h/b"),
            ("https://h/..", "https://h/"),
            ("https://h/../../a", "https://h/a"),
            ("https://h/a/.", "https://h/a/"),
            ("https://h/a/..", "https://h/"),
            ("https://h/a//b", "https://h/a//b"),
            ("https://h/a%2Fb/./c", "https://h/a%2Fb/c"),
            ("https://h/...", "https://h/..."),
            ("https://h/a[0]|b", "https://h/a%5B0%5D%7Cb"),
            ("https://h/a%5b0%5D%7cb", "https://h/a%5B0%5D%7Cb"),
            ("https://[::1]/", "https://[::1]/"),
            ("https://[0:0::0:1]:443", "https://[::1]/"),
            ("https://[2001:DB8::1]:8443/", "https://[2001:db8::1]:8443/"),
            ("https://127.0.0.1:8443/", "https://127.0.0.1:8443/"),
        ] {
            assert_eq!(normal(uri).as_deref(), Some(truth), "{uri}");
        }
    }

    #[test]
    fn what_differs_stays_different() {
        let base = normal("https://api.example.com/a/b");
        for other in [
            "http://api.example.com/a/b",
            "http://api.example.com:443/a/b",
            "https://api.example.com:80/a/b",
            "https://api.example.com:8443/a/b",
            "https://api.example.com./a/b",
            "https://api.example.org/a/b",
            "https://example.com/a/b",
            "https://api.example.com/A/b",
            "https://api.example.com/a/b/",
            "https://api.example.com/a//b",
            "https://api.example.com/a%2Fb",
            "https://api.example.com/a%2fb",
            "https://api.example.com/a/b;c",
            "https://api.example.com/a/b%00",
            "https://api.example.com/a/b%20",
            "https://api.example.com/a/b%3F",
            "https://api.example.com/a/b%23",
        ] {
            assert!(normal(other).is_some(), "{other}");
            assert_ne!(normal(other), base, "{other}");
        }
        // An escaped sub-delimiter differs from the plain one (RFC 3986 §2.2).
        assert_ne!(normal("https://h/a;b"), normal("https://h/a%3Bb"));
    }

    #[test]
    fn what_no_proof_is_for_has_no_normal_form() {
        for uri in [
            "",
            "/",
            "/a",
            "//h/a",
            "h/a",
            "https:",
            "https:/h/a",
            "https:///a",
            "https://",
            "https://:443/",
            "https://?a",
            "ftp://h/",
            "wss://h/",
            "javascript://h/",
            " https://h/",
            "https://h/ ",
            "https://h/a b",
            "https://h/a\tb",
            "https://h/a\nb",
            "https://h/a\0b",
            "https://h/a\\b",
            "https://h/a//../b",
            "https://h//..",
            "https://h/a%2fb/../c",
            "https://h/admin%2Fx/%2e%2E",
            "https:\\\\h\\a",
            "https://user@h/",
            "https://user:password@h/",
            "https://@h/",
            "https://h@evil.example/",
            "https://h/é",
            "https://é.example/",
            "https://h%2eexample/",
            "https://h/%",
            "https://h/%2",
            "https://h/%zz",
            "https://h/%+1",
            "https://h:x/",
            "https://h:-1/",
            "https://h:+443/",
            "https://h:0/",
            "https://h:65536/",
            "https://h:443:443/",
            "https://[::1/",
            "https://::1/",
            "https://[::1]x/",
            "https://[::1%25eth0]/",
            "https://[127.0.0.1]/",
            "https://[]/",
            "https://h[/",
        ] {
            assert_eq!(normal(uri), None, "{uri:?}");
        }
        assert_eq!(normalized(b"https://h/\xff"), None);
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic_and_what_is_normal_stays_as_it_is(
            uri in prop_oneof![
                "[ -~]{0,40}",
                "https?://[a-z\\[\\]:@.0-9%]{0,12}(/[a-zA-Z.%0-9;:é]{0,5}){0,6}",
                "\\PC{0,40}",
            ],
        ) {
            if let Some(once) = normal(&uri) {
                prop_assert_eq!(normal(&once), Some(once.clone()));
                let path = once.splitn(4, '/').nth(3).unwrap_or_default();
                prop_assert!(path.split('/').all(|segment| segment != "." && segment != ".."));
                prop_assert!(once.bytes().all(|byte| byte.is_ascii_graphic()));
            }
        }

        #[test]
        fn however_a_uri_is_written_it_is_the_same(
            host in "[a-z]{1,5}(\\.[a-z]{1,3}){0,2}",
            segments in proptest::collection::vec("[a-zA-Z0-9_~]{1,6}", 0..5),
            choices in proptest::collection::vec(any::<u8>(), 64),
        ) {
            let mut choices = choices.into_iter().cycle();
            let mut choose = |of: u8| choices.next().unwrap_or(0) % of;
            let plain = format!("https://{host}/{}", segments.join("/"));
            let mut written = String::new();
            for char in format!("https://{host}").chars() {
                written.push(if choose(2) == 0 { char.to_ascii_uppercase() } else { char });
            }
            written.push_str([":443", ":", ""][usize::from(choose(3))]);
            for segment in &segments {
                written.push_str(["", "/.", "/x/..", "/%2E", "/x/%2e."][usize::from(choose(5))]);
                written.push('/');
                for byte in segment.bytes() {
                    match choose(3) {
                        0 => written.push_str(&format!("%{byte:02x}")),
                        1 => written.push_str(&format!("%{byte:02X}")),
                        _ => written.push(char::from(byte)),
                    }
                }
            }
            if segments.is_empty() {
                written.push_str(["", "/", "/.", "/.."][usize::from(choose(4))]);
            }
            written.push_str(["", "?a=/../b", "#/x", "?"][usize::from(choose(4))]);
            prop_assert_eq!(normal(&written), normal(&plain), "{}", written);
            prop_assert_eq!(normal(&plain), Some(plain));
        }

        #[test]
        fn two_paths_that_differ_are_two(
            one in proptest::collection::vec("[a-z]{1,3}", 1..4),
            other in proptest::collection::vec("[a-z]{1,3}", 1..4),
        ) {
            let path = |segments: &[String]| normal(&format!("https://h/{}", segments.join("/")));
            prop_assert_eq!(path(&one) == path(&other), one == other);
        }
    }
}
