//! JSON objects in which every name stands once.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
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
        Err(error) => Err(said_by(&error)),
    }
}

/// [`object`], where what lies deeper decides as well, as in a set of keys or in the claim of an RFC 9701 response:
/// names stand once in every object within, too.
pub(crate) fn object_throughout(bytes: &[u8]) -> Result<Map<String, Value>, ObjectError> {
    match serde_json::from_slice::<UniqueThroughout>(bytes) {
        Ok(UniqueThroughout) => object(bytes),
        Err(error) => Err(said_by(&error)),
    }
}

/// The message is the only thing that a custom error carries through serde_json.
fn said_by(error: &serde_json::Error) -> ObjectError {
    if error.to_string().starts_with(DUPLICATE) {
        ObjectError::Duplicate
    } else {
        ObjectError::NotObject
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

/// JSON in which no object has a name twice. It is looked at and not kept: what a value becomes is left to serde_json.
struct UniqueThroughout;

impl<'de> Deserialize<'de> for UniqueThroughout {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Look)
    }
}

struct Look;

impl<'de> Visitor<'de> for Look {
    type Value = UniqueThroughout;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut names = HashSet::new();
        while let Some((name, UniqueThroughout)) = access.next_entry::<String, _>()? {
            if !names.insert(name) {
                return Err(A::Error::custom(DUPLICATE));
            }
        }
        Ok(UniqueThroughout)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        while let Some(UniqueThroughout) = access.next_element()? {}
        Ok(UniqueThroughout)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(UniqueThroughout)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(UniqueThroughout)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(UniqueThroughout)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(UniqueThroughout)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(UniqueThroughout)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(UniqueThroughout)
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
    fn a_name_that_stands_twice_deeper_is_refused_where_that_matters() {
        for text in [
            r#"{"a":{"b":1,"b":2}}"#,
            r#"{"a":[0,-1,1.5,"x",null,true,{"b":[{"c":1,"\u0063":1}]}]}"#,
            r#"{"b":1,"b":2}"#,
        ] {
            assert_eq!(
                object_throughout(text.as_bytes()),
                Err(ObjectError::Duplicate),
                "{text}"
            );
        }
        let text =
            br#"{"a":[0,-1,1.5,"x",null,true,18446744073709551615,{"a":{"a":1},"b":{"a":1}}]}"#;
        assert_eq!(object_throughout(text), object(text));
        assert!(object_throughout(text).is_ok());
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
            assert_eq!(
                object_throughout(text.as_bytes()),
                Err(ObjectError::NotObject)
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
