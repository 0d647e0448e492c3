//! What clients present elsewhere: a token in a cookie or in the query.

use url::form_urlencoded;

use crate::source::{Form, decode, values, without};

const NAME: &[u8] = b"token";

/// The value of a `Cookie` header, and a query.
pub fn source(text: &[u8]) {
    cookie(text);
    query(text);
}

fn left(form: Form, text: &[u8]) -> Vec<u8> {
    let mut left = Vec::new();
    without(form, text, NAME, &mut |piece| left.extend_from_slice(piece));
    assert_eq!(values(form, &left, NAME).count(), 0);
    left
}

fn cookie(text: &[u8]) {
    let pairs = |text: &[u8]| -> Vec<Vec<u8>> {
        let space = |byte: &u8| *byte == b' ' || *byte == b'\t';
        text.split(|byte| *byte == b';')
            .map(|pair| {
                let start = pair.iter().take_while(|byte| space(byte)).count();
                let end = pair.iter().rev().take_while(|byte| space(byte)).count();
                pair[start..(pair.len() - end).max(start)].to_vec()
            })
            .filter(|pair| !pair.is_empty())
            .collect()
    };
    let is_it = |pair: &Vec<u8>| {
        let name = pair
            .iter()
            .position(|byte| *byte == b'=')
            .map(|at| &pair[..at]);
        name.is_some_and(|name| pairs(name) == [NAME])
    };
    let (held, others): (Vec<_>, Vec<_>) = pairs(text).into_iter().partition(is_it);
    let found: Vec<_> = values(Form::Cookie, text, NAME).collect();
    assert_eq!(found.len(), held.len());
    for (value, pair) in found.into_iter().zip(&held) {
        let quote = usize::from(pair.ends_with(b"\""));
        assert!(pair.ends_with(value) || pair[..pair.len() - quote].ends_with(value));
    }
    assert_eq!(pairs(&left(Form::Cookie, text)), others);
}

fn query(text: &[u8]) {
    // As those who come after read it.
    let read = |text: &[u8]| -> Vec<(String, String)> {
        let end = text.iter().position(|byte| *byte == b'#');
        form_urlencoded::parse(&text[..end.unwrap_or(text.len())])
            .into_owned()
            .collect()
    };
    let (held, others): (Vec<_>, Vec<_>) = read(text)
        .into_iter()
        .partition(|(name, _)| name.as_bytes() == NAME);
    let found: Vec<_> = values(Form::Query, text, NAME).collect();
    assert_eq!(found.len(), held.len());
    for (value, (_, expected)) in found.into_iter().zip(&held) {
        if let Some(decoded) = decode(Form::Query, value) {
            assert_eq!(String::from_utf8_lossy(&decoded), *expected);
        }
    }
    assert_eq!(read(&left(Form::Query, text)), others);
}
