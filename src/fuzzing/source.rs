//! Fuzz target `source`: tokens in cookies and queries.

use crate::gateway::source::{Form, decode, values, without};

/// A letter (`c` for cookies, else a query) and a name in the first line, and the text.
pub fn source(input: &[u8]) {
    let Some(end) = input.iter().position(|&byte| byte == b'\n') else {
        return;
    };
    let (line, text) = (&input[..end], &input[end + 1..]);
    let Some((letter, name)) = line.split_first() else {
        return;
    };
    // A name that can be configured.
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    if name.is_empty() || !name.iter().all(is_name) {
        return;
    }
    let form = if *letter == b'c' {
        Form::Cookie
    } else {
        Form::Query
    };
    let found: Vec<_> = values(form, text, name).collect();
    let within = text.as_ptr_range();
    assert!(found.iter().all(|value| {
        let value = value.as_ptr_range();
        value.is_empty() || (within.start <= value.start && value.end <= within.end)
    }));
    let mut left = Vec::new();
    without(form, text, name, &mut |piece| left.extend_from_slice(piece));
    assert_eq!(values(form, &left, name).count(), 0, "some of it is left");

    let (ours, others): (Vec<_>, Vec<_>) = pairs(form, text)
        .into_iter()
        .partition(|(other, _)| other.as_bytes() == name);
    assert_eq!(
        pairs(form, &left),
        others,
        "another reader sees the others, and not ours"
    );
    assert_eq!(found.len(), ours.len(), "another reader sees as many");
    for (value, (_, said)) in found.iter().zip(&ours) {
        match decode(form, value) {
            Some(value) => assert_eq!(String::from_utf8_lossy(&value), *said),
            None => assert!(form == Form::Query && value.contains(&b'%')),
        }
    }
    // A fragment is not part of the query.
    if form == Form::Query {
        let fragment = |text: &[u8]| {
            let start = text.iter().position(|&byte| byte == b'#');
            text[start.unwrap_or(text.len())..].to_vec()
        };
        assert_eq!(fragment(&left), fragment(text));
    }
}

/// Names and values, by another parser.
fn pairs(form: Form, text: &[u8]) -> Vec<(String, String)> {
    let owned = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match form {
        Form::Query => {
            let query = text.split(|&byte| byte == b'#').next().unwrap_or_default();
            form_urlencoded::parse(query).into_owned().collect()
        }
        Form::Cookie => text
            .split(|&byte| byte == b';')
            .filter_map(|pair| {
                let mut sides = pair.splitn(2, |&byte| byte == b'=');
                let (name, value) = (trim(sides.next()?), trim(sides.next()?));
                let value = match value
                    .strip_prefix(b"\"")
                    .and_then(|it| it.strip_suffix(b"\""))
                {
                    Some(inner) => inner,
                    None => value,
                };
                Some((owned(name), owned(value)))
            })
            .collect(),
    }
}

fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}
