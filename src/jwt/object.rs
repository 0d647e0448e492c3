//! JSON objects in which every name stands once.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value};

/// Why bytes are no JSON object that may be relied on. Says nothing of the bytes themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ObjectError {
    /// Not JSON, or JSON of another kind.
    NotObject,
    /// A name stands in it twice.
    Duplicate,
}

/// Reads one JSON object and nothing after it.
///
/// RFC 8259 §4 leaves open what a name that stands twice means: two readers may see two different answers in
/// `{"active":false,"active":true}`. Such an object is refused. Within the members nobody decides anything, and
/// there the last one counts as usual. `serde_json` bounds how deeply they nest.
pub(crate) fn object(bytes: &[u8]) -> Result<Map<String, Value>, ObjectError> {
    match serde_json::from_slice::<Unique>(bytes) {
        Ok(Unique(members)) => Ok(members),
        // The message is the only thing that a custom error carries through serde_json.
        Err(error) if error.to_string().starts_with(DUPLICATE) => Err(ObjectError::Duplicate),
        Err(_) => Err(ObjectError::NotObject),
    }
}

const DUPLICATE: &str = "a name stands twice";

struct Unique(Map<String, Value>);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members).map(Unique)
    }
}

struct Members;

impl<'de> Visitor<'de> for Members {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut members = Map::new();
        while let Some((name, value)) = access.next_entry::<String, Value>()? {
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom(DUPLICATE));
            }
        }
        Ok(members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_object_is_read_with_white_space_around_it() {
        let members = object(b" {\"a\": 1, \"b\": {\"a\": [2]}} \r\n").unwrap();
        assert_eq!(members.len(), 2);
        assert_eq!(members["a"], 1);
    }

    #[test]
    fn a_name_that_stands_twice_is_refused_however_it_is_written() {
        for text in [
            r#"{"active":false,"active":true}"#,
            r#"{"active":true,"active":true}"#,
            r#"{"active":false,"x":[{}],"\u0061ctive":true}"#,
            r#"{"":1,"":2}"#,
        ] {
            assert_eq!(
                object(text.as_bytes()),
                Err(ObjectError::Duplicate),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_single_object_is_refused() {
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
        for text in [
            "",
            " ",
            "null",
            "true",
            "[]",
            "\"{}\"",
            "{",
            "{}{}",
            "{} x",
            "{'a':1}",
            "{\"a\":1,}",
            "{\"a\":01}",
            "{\"a\":NaN}",
            "{\"a\":1e999}",
            "\u{feff}{}",
            "{\"a\":\"\u{1}\"}",
            &deep,
        ] {
            assert_eq!(
                object(text.as_bytes()),
                Err(ObjectError::NotObject),
                "{:.40}",
                text
            );
        }
        assert_eq!(object(b"{\"a\":\"\xff\"}"), Err(ObjectError::NotObject));
    }

    #[test]
    fn a_text_that_says_what_our_error_says_is_not_taken_for_it() {
        assert_eq!(
            object(br#"{"a name stands twice":"a name stands twice"#),
            Err(ObjectError::NotObject)
        );
    }
}
