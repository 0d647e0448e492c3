//! Fuzz target `purge`: the form of a purge.

use super::assert_fit_for_a_log;
use crate::gateway::purge::{Form, MAX_FORM_LENGTH, Purge, PurgeError};

/// The number of bytes that arrive at a time, and a form.
pub fn purge(input: &[u8]) {
    let Some((&size, body)) = input.split_first() else {
        return;
    };
    let mut whole = Form::default();
    if whole.push(body).is_err() {
        assert!(body.len() > MAX_FORM_LENGTH);
        return;
    }
    let mut pieces = Form::with_capacity(body.len() / 2);
    for piece in body.chunks(usize::from(size).max(1)) {
        pieces.push(piece).expect("the whole fits");
    }
    let read = |form: &Form| -> Result<Option<String>, PurgeError> {
        form.read().map(|purge| match purge {
            Purge::Token(token) => Some(token.to_string()),
            Purge::All => None,
        })
    };
    let read_whole = read(&whole);
    assert_eq!(read_whole, read(&pieces));
    match read_whole {
        Ok(Some(token)) => {
            assert!(!token.is_empty());
            // It is the only parameter of its name, so any other parser of the form finds the same one.
            let named = |name: &str| {
                form_urlencoded::parse(body)
                    .filter(|(n, _)| n == name)
                    .count()
            };
            assert_eq!((named("token"), named("all")), (1, 0));
        }
        Ok(None) => {
            assert!(form_urlencoded::parse(body).any(|pair| pair == ("all".into(), "1".into())))
        }
        Err(error) => assert_fit_for_a_log(&error.to_string()),
    }
}
