//! Names of headers that applications take for the same.

/// Whether two names differ in nothing but case and punctuation. CGI takes `-` and `_` for the same (RFC 3875 §4.1.18), and
/// applications that receive `HTTP_…` take any byte for `_` that is neither letter nor digit, PHP the dot for one.
pub fn same_header(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let plain = |byte: &u8| match byte {
        byte if byte.is_ascii_alphanumeric() => byte.to_ascii_lowercase(),
        _ => b'-',
    };
    one.iter().map(plain).eq(other.iter().map(plain))
}
