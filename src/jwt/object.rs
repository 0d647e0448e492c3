//! JSON objects without ambiguity: every parser reads them alike.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// The reason why bytes are not an unambiguous JSON object. It contains none of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ObjectError {
    /// Not JSON, or JSON of another type.
    NotObject,
    /// A duplicate name in one of its objects.
    Duplicate,
    /// A whole number in it is too large to be held exactly.
    Number,
}

/// From here on a `f64` does not distinguish a whole number from the next one (2^53).
const INEXACT: f64 = 9_007_199_254_740_992.0;

/// Parses one JSON object and nothing after it. `serde_json` bounds its nesting depth.
///
/// Anything that two parsers may read differently is refused:
/// - A duplicate name in an object, at any depth (RFC 8259 §4): `{"active":false,"active":true}`, and also
///   `{"cnf":{"jkt":"a","jkt":"b"}}`.
/// - A whole number that is beyond 64 bits, or beyond 2^53 where it is written with a fraction or an exponent (RFC 8259
///   §6): `18446744073709551616` and `18446744073709551617` would become the same number, in a comparison and in a
///   minted JWT. A number with a fraction is the `f64` that it denotes, as for other parsers.
pub(crate) fn object(bytes: &[u8]) -> Result<Map<String, Value>, ObjectError> {
    match serde_json::from_slice::<Unambiguous>(bytes) {
        Ok(Unambiguous(Value::Object(members))) => Ok(members),
        Ok(_) => Err(ObjectError::NotObject),
        // The message is the only thing that a custom error carries through serde_json.
        Err(error) => Err(match error.to_string() {
            said if said.starts_with(DUPLICATE) => ObjectError::Duplicate,
            said if said.starts_with(NUMBER) => ObjectError::Number,
            _ => ObjectError::NotObject,
        }),
    }
}

const DUPLICATE: &str = "a name stands twice";
const NUMBER: &str = "a number is too large";

/// A value that has no ambiguous part.
struct Unambiguous(Value);

impl<'de> Deserialize<'de> for Unambiguous {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader).map(Unambiguous)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some((name, Unambiguous(value))) = access.next_entry::<String, _>()? {
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom(DUPLICATE));
            }
        }
        Ok(Value::Object(members))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(Unambiguous(element)) = access.next_element()? {
            elements.push(element);
        }
        Ok(Value::Array(elements))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    // serde_json reads a whole number beyond 64 bits as one of these, too.
    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        if value.abs() >= INEXACT {
            return Err(E::custom(NUMBER));
        }
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
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
    fn a_name_that_stands_twice_is_refused_at_every_depth() {
        for text in [
            r#"{"a":{"b":1,"b":2}}"#,
            r#"{"a":[0,-1,1.5,"x",null,true,{"b":[{"c":1,"\u0063":1}]}]}"#,
        ] {
            assert_eq!(
                object(text.as_bytes()),
                Err(ObjectError::Duplicate),
                "{text}"
            );
        }
        let text = br#"{"a":[0,-1,1.5,"x",null,true,{"a":{"a":1},"b":{"a":1}}]}"#;
        assert_eq!(
            object(text).map(Value::Object),
            Ok(serde_json::from_slice(text).unwrap())
        );
    }

    #[test]
    fn a_number_is_held_exactly_or_refused() {
        for number in [
            "18446744073709551616",
            "18446744073709551617",
            "-9223372036854775809",
            "9007199254740992.0",
            "1e16",
            "-1e16",
            "1.8446744073709551616e19",
        ] {
            for text in [
                format!(r#"{{"a":{number}}}"#),
                format!(r#"{{"a":[{{"b":{number}}}]}}"#),
            ] {
                let read = object(text.as_bytes());
                assert_eq!(read, Err(ObjectError::Number), "{text}");
            }
        }
        for number in [
            "0",
            "18446744073709551615",
            "-9223372036854775808",
            "1700000000.123456",
            "1.5",
            "0.1",
            "9007199254740991.0",
        ] {
            let text = format!(r#"{{"a":{number}}}"#);
            let members = object(text.as_bytes()).unwrap();
            assert_eq!(members["a"].to_string(), number);
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
        for text in [
            r#"{"a name stands twice":"a name stands twice"#,
            r#"{"a number is too large":"a number is too large"#,
        ] {
            assert_eq!(object(text.as_bytes()), Err(ObjectError::NotObject));
        }
    }
}
