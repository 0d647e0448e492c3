//! Paths to values in the claims of a token.

use serde_json::{Map, Value};

use super::{PolicyError, is_exact_header_value};
use crate::jwt::Claims;

/// The path to a claim: names separated by dots, `realm_access.roles`.
///
/// - A name may contain dots itself (`https://example.com/roles`). In each object, the longest of its names with which
///   the path begins is followed, without backtracking. Its value is searched with the rest of the path. If nothing is
///   found there, the result is empty.
/// - A list is searched element by element, so that `authorization_details.type` (RFC 9396 §2) finds each type.
/// - A member that is `null` counts as absent.
/// - Names are those of the token: `scp` does not stand for `scope` here, nor `azp` for `client_id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimPath(Box<str>);

impl ClaimPath {
    /// Parses a path.
    ///
    /// # Errors
    /// [`PolicyError`] when it is empty, begins or ends with a dot, or has a control character.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        if text.is_empty() || text.starts_with('.') || text.ends_with('.') {
            return Err(PolicyError::new(
                text,
                "is not a claim: write its name, or names with dots between them",
            ));
        }
        if text.contains(char::is_control) {
            return Err(PolicyError::new(
                text,
                "is not a claim: it has a control character",
            ));
        }
        Ok(ClaimPath(text.into()))
    }

    /// The path as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `test` holds for a value at the path. The second argument of `test` is whether there was a list on the
    /// way. Nothing is allocated.
    pub(super) fn any<'a>(
        &self,
        claims: &'a Claims,
        test: &mut dyn FnMut(&'a Value, bool) -> bool,
    ) -> bool {
        in_object(claims.members(), &self.0, false, test)
    }

    /// Writes the value at the path to `out`, as the text of a variable or a header. Returns whether there is a value
    /// that can be written; if not, `out` is unchanged.
    ///
    /// - A string is written unchanged, a number and a boolean as JSON writes them, an object as JSON.
    /// - A list is written with spaces between its elements, and likewise the values in all elements of a list on the
    ///   way. If an element is an object, the text is a JSON array. If an element is a string that has a space or is
    ///   empty, there is no value: one value must not look like two.
    /// - A text that a header would not carry unchanged ([`is_exact_header_value`]) is not a value: one with a line
    ///   break or another control character, or with white space at either end. A list without elements is not a value
    ///   either.
    pub fn text(&self, claims: &Claims, out: &mut String) -> bool {
        let mut found = Vec::new();
        let mut listed = false;
        self.any(claims, &mut |value, in_list| {
            listed |= in_list;
            found.push(value);
            false
        });
        let start = out.len();
        let written = match *found {
            [] => false,
            [value] if !listed => one(value, out),
            _ => list(&found, out),
        };
        let written = written && is_exact_header_value(&out.as_bytes()[start..]);
        if !written {
            out.truncate(start);
        }
        written
    }
}

fn in_object<'a>(
    members: &'a Map<String, Value>,
    path: &str,
    in_list: bool,
    test: &mut dyn FnMut(&'a Value, bool) -> bool,
) -> bool {
    let mut name = path;
    loop {
        if let Some(value) = members.get(name).filter(|value| !value.is_null()) {
            return match path.get(name.len() + 1..) {
                Some(rest) => in_value(value, rest, in_list, test),
                None => test(value, in_list),
            };
        }
        match name.rfind('.') {
            Some(dot) => name = &name[..dot],
            None => return false,
        }
    }
}

fn in_value<'a>(
    value: &'a Value,
    path: &str,
    in_list: bool,
    test: &mut dyn FnMut(&'a Value, bool) -> bool,
) -> bool {
    match value {
        Value::Object(members) => in_object(members, path, in_list, test),
        // The JSON parser limits the depth.
        Value::Array(elements) => elements
            .iter()
            .any(|element| in_value(element, path, true, test)),
        _ => false,
    }
}

/// Writes one value.
fn one(value: &Value, out: &mut String) -> bool {
    match value {
        Value::Null => return false,
        Value::String(text) => out.push_str(text),
        Value::Array(elements) => return list(&elements.iter().collect::<Vec<_>>(), out),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => out.push_str(&value.to_string()),
    }
    true
}

/// Writes the elements of a list.
fn list(elements: &[&Value], out: &mut String) -> bool {
    fn has_object(value: &Value) -> bool {
        match value {
            Value::Object(_) => true,
            Value::Array(elements) => elements.iter().any(has_object),
            _ => false,
        }
    }
    fn words(value: &Value, out: &mut String) -> bool {
        match value {
            Value::Null => return true,
            Value::Array(elements) => return elements.iter().all(|element| words(element, out)),
            Value::String(text) if text.is_empty() || text.contains(char::is_whitespace) => {
                return false;
            }
            _ => {}
        }
        if !out.is_empty() {
            out.push(' ');
        }
        one(value, out)
    }
    if elements.iter().any(|element| has_object(element)) {
        return serde_json::to_string(elements)
            .map(|json| out.push_str(&json))
            .is_ok();
    }
    let mut joined = String::new();
    let written = elements.iter().all(|element| words(element, &mut joined));
    out.push_str(&joined);
    written && !joined.is_empty()
}
