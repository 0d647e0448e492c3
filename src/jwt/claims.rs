//! Claims of a token.

use std::fmt;
use std::sync::OnceLock;

use serde_json::{Map, Number, Value};

use super::object;

/// Claims of a token, from an introspection response (RFC 7662 §2.2) and from the JWT's payload (RFC 7519 §4).
///
/// A claim of the wrong type is an error and never counts as missing: an unreadable `exp` must not make a token that
/// never expires.
pub struct Claims {
    /// Expiry, in seconds since the epoch.
    pub exp: Option<i64>,
    /// Not valid before, in seconds since the epoch.
    pub nbf: Option<i64>,
    /// Issued at, in seconds since the epoch.
    pub iat: Option<i64>,
    /// Scopes, separated by one space each; empty when there is none.
    pub scope: Box<str>,
    /// Audiences.
    pub aud: Box<[Box<str>]>,
    /// Issuer.
    pub iss: Option<Box<str>>,
    /// Subject.
    pub sub: Option<Box<str>>,
    /// The OAuth client that the token was issued to.
    pub client_id: Option<Box<str>>,
    /// All claims, for lookups at every request.
    members: Map<String, Value>,
    /// All claims as one JSON object, followed by one NUL. It is written on first use, because most are never used.
    json: OnceLock<Box<str>>,
}

/// A claim of the wrong type: names the claim, and the right type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ClaimsError(pub &'static str);

/// The last second of the year 9999, and as long before the epoch. A time beyond it is set to it, so that arithmetic
/// with times cannot overflow.
const FAR: i64 = 253_402_300_799;

const SCOPE: [&str; 2] = ["scope", "scp"];
const CLIENT: [&str; 2] = ["client_id", "azp"];

const TIME: [(&str, ClaimsError); 3] = [
    ("exp", ClaimsError("exp is not a number of seconds")),
    ("nbf", ClaimsError("nbf is not a number of seconds")),
    ("iat", ClaimsError("iat is not a number of seconds")),
];

impl Claims {
    /// No claim at all.
    pub fn empty() -> Self {
        Claims {
            exp: None,
            nbf: None,
            iat: None,
            scope: Box::default(),
            aud: Box::default(),
            iss: None,
            sub: None,
            client_id: None,
            members: Map::new(),
            json: OnceLock::new(),
        }
    }

    /// Parses the claims of one JSON object, such as [`Claims::json`] gives.
    ///
    /// # Errors
    /// [`ClaimsError`] when `json` is not an object with unique names, or a claim in it has the wrong type.
    pub fn from_json(json: &str) -> Result<Self, ClaimsError> {
        let members = object(json.as_bytes())
            .map_err(|_| ClaimsError("the claims are not a JSON object with unique names"))?;
        Self::from_members(members, Map::new())
    }

    /// The claims of a JWT's payload and of the introspection response that it came in.
    ///
    /// The response is about the token that was presented, so it takes precedence, but nothing may be valid for longer
    /// than either says: of `exp` the smaller counts, of `nbf` the later. A member that is `null` counts as missing.
    /// `scp` stands in for `scope`, and `azp` for `client_id`, where the same source has no other.
    ///
    /// # Errors
    /// [`ClaimsError`] when a claim has the wrong type.
    pub(crate) fn from_members(
        payload: Map<String, Value>,
        response: Map<String, Value>,
    ) -> Result<Self, ClaimsError> {
        let sources = [&response, &payload];
        let [exp, nbf, iat] = TIME.map(|(name, error)| -> Result<_, ClaimsError> {
            let mut times = [None; 2];
            for (time, source) in times.iter_mut().zip(sources) {
                *time = present(source, name)
                    .map(|value| seconds(value).ok_or(error))
                    .transpose()?;
            }
            Ok(times)
        });
        let exp = exp?.into_iter().flatten().min();
        let nbf = nbf?.into_iter().flatten().max();
        let iat = iat?.into_iter().flatten().next();

        let mut scope = Box::default();
        if let Some(value) = first(sources, &SCOPE) {
            scope = words(value).ok_or(ClaimsError(
                "scope is neither a string nor a list of strings",
            ))?;
        }
        let mut aud = Box::default();
        if let Some(value) = first(sources, &["aud"]) {
            aud =
                list(value).ok_or(ClaimsError("aud is neither a string nor a list of strings"))?;
        }
        let iss = string(sources, &["iss"], ClaimsError("iss is not a string"))?;
        let sub = string(sources, &["sub"], ClaimsError("sub is not a string"))?;
        let client_id = string(
            sources,
            &CLIENT,
            ClaimsError("client_id (or azp) is not a string"),
        )?;

        let mut members = payload;
        // One claim under two names: if the response has it, the payload's value is dropped entirely.
        for names in [SCOPE, CLIENT] {
            if names.iter().any(|name| present(&response, name).is_some()) {
                for name in names {
                    members.remove(name);
                }
            }
        }
        for (name, value) in response {
            if !value.is_null() {
                members.insert(name, value);
            }
        }
        for (name, time) in [("exp", exp), ("nbf", nbf)] {
            if let Some(time) = time {
                members.insert(name.to_owned(), Value::Number(Number::from(time)));
            }
        }
        Ok(Claims {
            exp,
            nbf,
            iat,
            scope,
            aud,
            iss,
            sub,
            client_id,
            members,
            json: OnceLock::new(),
        })
    }

    /// A claim, by its name (RFC 7519 §4). A claim that is `null` counts as missing.
    pub fn get(&self, name: &str) -> Option<&Value> {
        present(&self.members, name)
    }

    /// All claims.
    pub fn members(&self) -> &Map<String, Value> {
        &self.members
    }

    /// Whether the token is bound to a key of its sender (RFC 7800 §3.1): the sender must prove that it has the key.
    pub fn is_bound(&self) -> bool {
        self.get("cnf").is_some()
    }

    /// All claims as one JSON object. The byte after it is NUL, and there is none in it.
    pub fn json(&self) -> &str {
        let json = self.json.get_or_init(|| {
            // With room for most tokens: a text that grows is copied each time.
            let mut json = Vec::with_capacity(1024);
            // Writing a map of values to memory cannot fail.
            let written = serde_json::to_writer(&mut json, &self.members).is_ok();
            json.push(0);
            String::from_utf8(json)
                .ok()
                .filter(|_| written)
                .unwrap_or_else(|| "{}\0".to_owned())
                .into_boxed_str()
        });
        &json[..json.len() - 1]
    }

    /// The heap memory held, in bytes, with enough precision for the bound of a cache. It is the same for the same
    /// claims, at all times: it includes the text of [`Claims::json`] even if it has not been written.
    pub fn heap_size(&self) -> usize {
        2 * tree_size(&self.members)
            + self.scope.len()
            + self
                .aud
                .iter()
                .map(|aud| aud.len() + size_of::<Box<str>>())
                .sum::<usize>()
            + [&self.iss, &self.sub, &self.client_id]
                .into_iter()
                .flatten()
                .map(|text| text.len())
                .sum::<usize>()
    }
}

/// The size of an object's members on the heap.
fn tree_size(members: &Map<String, Value>) -> usize {
    fn held(value: &Value) -> usize {
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
            Value::String(text) => text.len(),
            Value::Array(values) => values.iter().map(|it| size_of::<Value>() + held(it)).sum(),
            Value::Object(members) => tree_size(members),
        }
    }
    members
        .iter()
        .map(|(name, value)| size_of::<String>() + name.len() + size_of::<Value>() + held(value))
        .sum()
}

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A token's personal data does not belong in a log.
        f.debug_struct("Claims")
            .field("exp", &self.exp)
            .finish_non_exhaustive()
    }
}

/// The members of an introspection response that must be kept so that, with the JWT's payload, they give the same
/// claims again. The result is one JSON object without the members that the payload has as well, or empty. So a server
/// whose response repeats everything in the JWT does not make us keep it twice.
pub(crate) fn extra_claims(
    payload: &Map<String, Value>,
    response: &Map<String, Value>,
) -> Box<str> {
    let same = |name: &str| present(response, name) == payload.get(name);
    let said_by_payload = |name: &str| {
        // Under any of its names, a claim replaces all of them: all are kept, or none.
        [SCOPE, CLIENT]
            .iter()
            .find(|names| names.contains(&name))
            .map_or_else(|| same(name), |names| names.iter().all(|name| same(name)))
    };
    let kept: Map<String, Value> = response
        .iter()
        .filter(|(name, value)| !value.is_null() && !said_by_payload(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    if kept.is_empty() {
        return Box::default();
    }
    Value::Object(kept).to_string().into_boxed_str()
}

pub(super) fn present<'a>(source: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    source.get(name).filter(|value| !value.is_null())
}

/// The first of `names` in the first source that has any of them.
fn first<'a>(sources: [&'a Map<String, Value>; 2], names: &[&str]) -> Option<&'a Value> {
    sources
        .into_iter()
        .find_map(|source| names.iter().find_map(|name| present(source, name)))
}

fn string(
    sources: [&Map<String, Value>; 2],
    names: &[&str],
    error: ClaimsError,
) -> Result<Option<Box<str>>, ClaimsError> {
    match first(sources, names) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str().into())),
        Some(_) => Err(error),
    }
}

/// A NumericDate (RFC 7519 §2), which some servers write as a string. A fraction is dropped.
pub(crate) fn seconds(value: &Value) -> Option<i64> {
    let seconds = match value {
        Value::Number(number) => match number.as_i64() {
            Some(seconds) => seconds,
            // A cast from floating point saturates; there is no NaN in JSON.
            None => number.as_f64()?.floor() as i64,
        },
        Value::String(text) => match text.parse::<i64>() {
            Ok(seconds) => seconds,
            Err(_) if text.contains(|char: char| char.is_ascii_whitespace()) => return None,
            // Numbers as in JSON: other forms that Rust parses ("inf", "1.") are not numbers here.
            Err(_) => serde_json::from_str::<Number>(text).ok()?.as_f64()?.floor() as i64,
        },
        _ => return None,
    };
    Some(seconds.clamp(-FAR, FAR))
}

/// A string, or a list of strings, as one text with single spaces between the words.
fn words(value: &Value) -> Option<Box<str>> {
    let mut joined = String::new();
    for text in list(value)? {
        for word in text.split_ascii_whitespace() {
            if !joined.is_empty() {
                joined.push(' ');
            }
            joined.push_str(word);
        }
    }
    Some(joined.into_boxed_str())
}

/// A string, or a list of strings.
pub(super) fn list(value: &Value) -> Option<Box<[Box<str>]>> {
    match value {
        Value::String(text) => Some([text.as_str().into()].into()),
        Value::Array(texts) => texts
            .iter()
            .map(|text| text.as_str().map(Box::from))
            .collect(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn members(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(members) => members,
            _ => panic!("not an object"),
        }
    }

    fn merged(payload: Value, response: Value) -> Claims {
        Claims::from_members(members(payload), members(response)).unwrap()
    }

    fn claims(payload: Value) -> Claims {
        merged(payload, json!({}))
    }

    fn refused(payload: Value) -> &'static str {
        // In either place it is refused, and in both for the same reason.
        let one = Claims::from_members(members(payload.clone()), Map::new()).unwrap_err();
        let other = Claims::from_members(Map::new(), members(payload)).unwrap_err();
        assert_eq!(one, other);
        one.0
    }

    #[test]
    fn what_a_jwt_says_is_read() {
        let claims = claims(json!({
            "exp": 1_700_000_300, "nbf": 1_700_000_000, "iat": 1_699_999_999,
            "scope": "read write", "aud": ["api", "other"], "iss": "https://as.example.com",
            "sub": "alice", "client_id": "web", "role": {"name": "admin"},
        }));
        assert_eq!(
            (claims.exp, claims.nbf, claims.iat),
            (
                Some(1_700_000_300),
                Some(1_700_000_000),
                Some(1_699_999_999)
            )
        );
        assert_eq!(&*claims.scope, "read write");
        assert_eq!(
            claims.aud.iter().map(|aud| &**aud).collect::<Vec<_>>(),
            ["api", "other"]
        );
        assert_eq!(claims.iss.as_deref(), Some("https://as.example.com"));
        assert_eq!(claims.sub.as_deref(), Some("alice"));
        assert_eq!(claims.client_id.as_deref(), Some("web"));
        let json: Value = serde_json::from_str(claims.json()).unwrap();
        assert_eq!(json["role"]["name"], "admin");
        assert_eq!(json["aud"], json!(["api", "other"]));
    }

    #[test]
    fn no_claims_are_an_empty_object() {
        for claims in [Claims::empty(), claims(json!({}))] {
            assert_eq!(claims.json(), "{}");
            assert_eq!((claims.exp, claims.nbf, claims.iat), (None, None, None));
            assert!(claims.scope.is_empty() && claims.aud.is_empty());
            assert!(claims.iss.is_none() && claims.sub.is_none() && claims.client_id.is_none());
        }
    }

    #[test]
    fn the_response_wins_over_the_jwt() {
        let claims = merged(
            json!({"sub": "a", "scope": "read write admin", "aud": "x", "iat": 1, "only": "jwt"}),
            json!({"sub": "b", "scope": "read", "aud": ["y"], "iat": 2, "new": true}),
        );
        assert_eq!(claims.sub.as_deref(), Some("b"));
        assert_eq!(&*claims.scope, "read");
        assert_eq!(&*claims.aud[0], "y");
        assert_eq!(claims.iat, Some(2));
        assert_eq!(
            serde_json::from_str::<Value>(claims.json()).unwrap(),
            json!({"sub": "b", "scope": "read", "aud": ["y"], "iat": 2, "only": "jwt", "new": true})
        );
    }

    #[test]
    fn nothing_is_valid_for_longer_than_either_says() {
        for (payload, response) in [(100, 200), (200, 100)] {
            let claims = merged(
                json!({"exp": payload, "nbf": payload}),
                json!({"exp": response, "nbf": response}),
            );
            assert_eq!((claims.exp, claims.nbf), (Some(100), Some(200)));
            assert_eq!(claims.json(), r#"{"exp":100,"nbf":200}"#);
        }
    }

    #[test]
    fn narrower_scopes_of_the_response_count_under_whichever_name() {
        let scope = |payload, response| merged(payload, response).scope;
        assert_eq!(&*scope(json!({"scope": "a b"}), json!({"scp": ["a"]})), "a");
        assert_eq!(
            &*scope(json!({"scp": ["a", "b"]}), json!({"scope": ""})),
            ""
        );
        assert_eq!(&*scope(json!({"scp": ["a"], "scope": "b"}), json!({})), "b");
        assert_eq!(
            &*scope(json!({"scp": "a b"}), json!({"scope": null})),
            "a b"
        );
    }

    #[test]
    fn scopes_are_normalised_to_single_spaces() {
        for (value, expected) in [
            (json!("read"), "read"),
            (json!("  read   write\t\n"), "read write"),
            (json!(""), ""),
            (json!(["read", "write"]), "read write"),
            (json!(["read write", "", " x "]), "read write x"),
            (json!([]), ""),
        ] {
            assert_eq!(&*claims(json!({"scope": value})).scope, expected);
            assert_eq!(&*claims(json!({"scp": value})).scope, expected);
        }
    }

    #[test]
    fn azp_names_the_client_where_client_id_does_not() {
        let client = |payload| claims(payload).client_id;
        assert_eq!(client(json!({"azp": "a"})).as_deref(), Some("a"));
        assert_eq!(
            client(json!({"azp": "a", "client_id": "b"})).as_deref(),
            Some("b")
        );
        assert_eq!(client(json!({})).as_deref(), None);
    }

    #[test]
    fn times_are_read_in_every_spelling_that_is_a_number() {
        for (value, expected) in [
            (json!(1_700_000_000), 1_700_000_000),
            (json!(0), 0),
            (json!(-5), -5),
            (json!(1_700_000_000.9), 1_700_000_000),
            (json!(-0.5), -1),
            (json!(1.7e9), 1_700_000_000),
            (json!("1700000000"), 1_700_000_000),
            (json!("1700000000.5"), 1_700_000_000),
            (json!(1_700_000_000_000_000i64), FAR),
            (json!(u64::MAX), FAR),
            (json!(i64::MIN), -FAR),
            (json!(1e300), FAR),
            (json!(-1e300), -FAR),
            (json!("99999999999999999999999"), FAR),
        ] {
            assert_eq!(claims(json!({"exp": value})).exp, Some(expected), "{value}");
        }
    }

    #[test]
    fn a_claim_that_is_not_of_its_kind_is_refused_by_name() {
        for value in [
            json!(true),
            json!([]),
            json!({}),
            json!(""),
            json!("soon"),
            json!("inf"),
            json!("NaN"),
            json!("1_000"),
            json!(" 1"),
            json!("0x10"),
            json!("1."),
            json!("1e999"),
            json!([1]),
        ] {
            for name in ["exp", "nbf", "iat"] {
                assert_eq!(
                    refused(json!({name: value})),
                    format!("{name} is not a number of seconds"),
                    "{value}"
                );
            }
        }
        for value in [
            json!(1),
            json!(true),
            json!({}),
            json!([1]),
            json!(["a", null]),
        ] {
            assert!(refused(json!({"scope": value})).starts_with("scope is"));
            assert!(refused(json!({"scp": value})).starts_with("scope is"));
            assert!(refused(json!({"aud": value})).starts_with("aud is"));
        }
        for value in [json!(1), json!(true), json!({}), json!(["a"])] {
            for name in ["iss", "sub", "client_id", "azp"] {
                assert!(refused(json!({name: value})).contains(name));
            }
        }
    }

    #[test]
    fn a_bad_exp_in_one_source_is_not_hidden_by_a_good_one_in_the_other() {
        for (payload, response) in [
            (json!({"exp": "x"}), json!({"exp": 5})),
            (json!({"exp": 5}), json!({"exp": "x"})),
        ] {
            assert!(Claims::from_members(members(payload), members(response)).is_err());
        }
    }

    #[test]
    fn null_is_as_good_as_not_there() {
        let claims = merged(
            json!({"exp": 5, "sub": "a", "scope": null}),
            json!({"exp": null, "sub": null, "aud": null, "client_id": null}),
        );
        assert_eq!(claims.exp, Some(5));
        assert_eq!(claims.sub.as_deref(), Some("a"));
        assert!(claims.aud.is_empty() && claims.client_id.is_none() && claims.scope.is_empty());
    }

    #[test]
    fn no_zero_byte_is_in_the_json_and_one_is_after_it() {
        let claims = claims(json!({"sub": "a\u{0}b", "\u{0}": 1}));
        assert!(!claims.json().contains('\0'));
        assert!(claims.json.get().is_some_and(|json| json.ends_with('\0')));
        assert_eq!(claims.sub.as_deref(), Some("a\u{0}b"));
    }

    #[test]
    fn debug_shows_nobody() {
        let text = format!("{:?}", claims(json!({"sub": "alice", "exp": 7})));
        assert_eq!(text, "Claims { exp: Some(7), .. }");
    }

    #[test]
    fn text_that_is_not_an_object_has_no_claims() {
        for text in ["", "[]", "{", r#"{"exp":1,"exp":2}"#] {
            assert!(Claims::from_json(text).is_err(), "{text}");
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            // Beyond that none is read.
            (-1e15..1e15).prop_map(Value::from),
            "\\PC{0,12}".prop_map(Value::from),
            "[0-9.eE+-]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(2, 12, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("\\PC{0,4}", inner, 0..3)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn any_members() -> impl Strategy<Value = Map<String, Value>> {
        let name = prop_oneof![
            Just("exp"),
            Just("nbf"),
            Just("iat"),
            Just("scope"),
            Just("scp"),
            Just("aud"),
            Just("iss"),
            Just("sub"),
            Just("client_id"),
            Just("azp"),
            Just("x"),
        ];
        proptest::collection::btree_map(name.prop_map(String::from), any_json(), 0..6)
            .prop_map(|map| map.into_iter().collect())
    }

    #[test]
    fn of_a_response_that_repeats_the_jwt_nothing_is_kept() {
        let kept = |payload, response| extra_claims(&members(payload), &members(response));
        let all = json!({"exp": 5, "sub": "a", "scope": "x y", "client_id": "c", "aud": ["b"], "role": {"n": 1}});
        assert_eq!(&*kept(all.clone(), all.clone()), "");
        assert_eq!(&*kept(all.clone(), json!({"exp": null, "new": null})), "");
        assert_eq!(
            &*kept(
                all.clone(),
                json!({"exp": 4, "sub": "a", "token_type": "Bearer"})
            ),
            r#"{"exp":4,"token_type":"Bearer"}"#
        );
        // What stands under another name as well replaces more than itself.
        assert_eq!(
            &*kept(json!({"scope": "a", "scp": "b"}), json!({"scope": "a"})),
            r#"{"scope":"a"}"#
        );
    }

    proptest! {
        #[test]
        fn what_is_kept_of_a_response_makes_the_same_claims_with_the_payload(
            payload in any_members(), response in any_members(), common in any_members(),
        ) {
            let both = |mut own: Map<String, Value>| {
                own.extend(common.clone());
                own
            };
            let [payload, response] = [payload, response].map(both);
            let text = extra_claims(&payload, &response);
            let kept = match &*text {
                "" => Map::new(),
                text => object(text.as_bytes()).unwrap(),
            };
            let again = Claims::from_members(payload.clone(), kept);
            match (Claims::from_members(payload, response), again) {
                (Ok(claims), Ok(again)) => {
                    let all = |claims: &Claims| (
                        (claims.exp, claims.nbf, claims.iat),
                        (claims.scope.clone(), claims.aud.clone(), claims.iss.clone()),
                        (claims.sub.clone(), claims.client_id.clone()),
                        // As values: of two zeroes that differ in their sign one stands for both.
                        serde_json::from_str::<Value>(claims.json()).unwrap(),
                    );
                    prop_assert_eq!(all(&claims), all(&again));
                    // The sign of a zero aside.
                    prop_assert!(claims.heap_size().abs_diff(again.heap_size()) <= 8);
                }
                (Err(one), Err(other)) => prop_assert_eq!(one, other),
                (one, other) => prop_assert!(false, "{one:?} and {other:?}"),
            }
        }

        #[test]
        fn no_claims_make_it_panic_and_what_is_read_reads_back(
            payload in any_members(), response in any_members(),
        ) {
            if let Ok(claims) = Claims::from_members(payload, response) {
                let again = Claims::from_json(claims.json()).unwrap();
                prop_assert_eq!(again.json(), claims.json());
                prop_assert_eq!(again.exp, claims.exp);
                prop_assert_eq!(again.nbf, claims.nbf);
                prop_assert_eq!(&again.scope, &claims.scope);
                prop_assert_eq!(&again.client_id, &claims.client_id);
                prop_assert!(claims.exp.is_none_or(|exp| (-FAR..=FAR).contains(&exp)));
                prop_assert!(!claims.scope.contains("  "));
            }
        }
    }
}
