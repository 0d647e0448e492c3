//! Fuzz target `authorization`: the value of `Authorization`, and the token in it.

use aws_lc_rs::digest;

use crate::Token;
use crate::token::{Credentials, Fingerprint, Key, MAX_TOKEN_LENGTH, Scheme, TokenError};

/// The value of an `Authorization` header.
pub fn authorization(value: &[u8]) {
    parse(value);
    let around = |byte: &&u8| [b' ', b'\t'].contains(*byte);
    let start = value.iter().take_while(around).count();
    let trimmed = &value[start..];
    let trimmed = &trimmed[..trimmed.len() - trimmed.iter().rev().take_while(around).count()];
    let presented = [(Scheme::Bearer, "bearer"), (Scheme::Dpop, "dpop")]
        .into_iter()
        .find(|(_, name)| {
            let start = trimmed.get(..name.len()).unwrap_or_default();
            start.to_ascii_lowercase() == name.as_bytes()
        });
    let after = presented.map_or(trimmed, |(_, name)| &trimmed[name.len()..]);
    match Credentials::from_authorization(value) {
        Credentials::Token(scheme, token) => {
            assert!(presented.is_some_and(|(it, _)| it == scheme));
            let token = token.expose().as_bytes();
            let spaces = &after[..after.len() - token.len()];
            // It is in the value, at its end.
            assert_eq!(after.as_ptr_range().end, token.as_ptr_range().end);
            assert!(!spaces.is_empty() && spaces.iter().all(|&byte| byte == b' '));
            assert_eq!(grammar(token), Ok(()));
        }
        Credentials::Malformed => {
            assert!(presented.is_some());
            assert!(
                after
                    .first()
                    .is_none_or(|&byte| byte <= b' ' || byte == 0x7f)
            );
            let spaces = after.iter().take_while(|&&byte| byte == b' ').count();
            assert!(spaces == 0 || grammar(&after[spaces..]).is_err());
        }
        Credentials::Missing => {
            let ends = after
                .first()
                .is_none_or(|&byte| byte <= b' ' || byte == 0x7f);
            assert!(presented.is_none() || !ends);
        }
    }
}

/// The token by itself, and its key.
fn parse(bytes: &[u8]) {
    let read = Token::parse(bytes);
    assert_eq!(
        read.as_ref().map(|_| ()).map_err(|error| *error),
        grammar(bytes)
    );
    let Ok(token) = read else {
        return;
    };
    assert_eq!(
        token.expose().as_bytes().as_ptr_range(),
        bytes.as_ptr_range()
    );
    let mut hashed = [0; 64].to_vec();
    hashed[..32].fill(7);
    hashed.extend_from_slice(bytes);
    assert_eq!(
        Key::new(&Fingerprint([7; 32]), token).as_bytes(),
        digest::digest(&digest::SHA256, &hashed).as_ref(),
    );
}

/// `1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="` (RFC 6750 §2.1), a byte at a time.
fn grammar(bytes: &[u8]) -> Result<(), TokenError> {
    match bytes.len() {
        0 => return Err(TokenError::Empty),
        1..=MAX_TOKEN_LENGTH => {}
        _ => return Err(TokenError::TooLong),
    }
    let mut padding = false;
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'=' if at > 0 => padding = true,
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'+' | b'/'
                if !padding => {}
            _ => return Err(TokenError::BadByte),
        }
    }
    Ok(())
}
