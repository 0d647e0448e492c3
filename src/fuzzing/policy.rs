//! Fuzz targets `claim_path` and `policy`: paths into claims, and a location's requirements for a token.

use serde_json::Value;

use super::{NOW, assert_fit_for_a_log};
use crate::gateway::requirements::{ClaimPath, RequirementKind, TokenRequirements};
use crate::jwt::Claims;

/// A path in the first line, and an object of claims.
pub fn claim_path(input: &[u8]) {
    let Some((path, claims)) = first_line(input) else {
        return;
    };
    let path = match ClaimPath::parse(path) {
        Ok(path) => path,
        Err(error) => return assert_fit_for_a_log(&error.to_string()),
    };
    let Ok(claims) = Claims::from_json(claims) else {
        return;
    };
    let document = object(&claims);
    let names: Vec<_> = path.as_str().split('.').collect();
    let mut found = Vec::new();
    let mut listed = false;
    search(&document, &names, &mut found, &mut listed);

    const BEFORE: &str = "before ";
    let mut out = BEFORE.to_owned();
    let written = path.text(&claims, &mut out);
    let text = out.strip_prefix(BEFORE).expect("what was there stays");
    if !written {
        assert!(text.is_empty());
        if let [Value::String(said)] = *found
            && !listed
        {
            assert!(
                said.contains(char::is_control) || said.trim() != said,
                "a plain text can be written"
            );
        }
        return;
    }
    assert!(
        !text.contains(char::is_control) && text.trim() == text,
        "it is to stand in a header"
    );
    assert!(!found.is_empty());
    let mut scalars = Vec::new();
    let objects = found.iter().any(|value| flatten(value, &mut scalars));
    match *found {
        [Value::String(said)] if !listed => assert_eq!(text, said),
        [value @ Value::Object(_)] if !listed => assert_eq!(json(text), *value),
        _ if objects => assert!(json(text).is_array()),
        _ => {
            // One value can't be taken for two, and none is left out.
            let words: Vec<_> = text.split(' ').collect();
            let expected: Vec<_> = scalars
                .iter()
                .map(|value| {
                    value
                        .as_str()
                        .map_or_else(|| value.to_string(), str::to_owned)
                })
                .collect();
            assert_eq!(words, expected);
        }
    }
}

/// Lines of a key and values, an empty line, and an object of claims.
pub fn policy(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let (lines, claims) = text.split_once("\n\n").unwrap_or((text, "{}"));
    let mut policy = TokenRequirements::default();
    let mut lists: Vec<Vec<&str>> = Vec::new();
    let mut set = Vec::new();
    for line in lines.split('\n').take(20) {
        let mut words = line.split(' ');
        let key = words.next().unwrap_or_default();
        let values: Vec<_> = words.collect();
        match policy.set(key, &values) {
            Ok(()) if key == "scopes" => lists.push(values),
            Ok(()) => set.push((key, values)),
            Err(error) => assert_fit_for_a_log(&error.to_string()),
        }
    }
    assert_eq!(policy.is_empty(), lists.is_empty() && set.is_empty());
    for text in [policy.scopes_advertised(), policy.acr_values()] {
        assert!(text.bytes().all(|byte| (b' '..0x7f).contains(&byte)));
    }
    assert!(!policy.scopes_advertised().contains(['"', '\\']));
    let Ok(claims) = Claims::from_json(claims) else {
        return;
    };
    let decision = policy.check(&claims, NOW, &mut |_| None);
    // A lower level inherits the requirements of the level above.
    let mut below = TokenRequirements::default();
    below.inherit(&policy);
    assert_eq!(below.check(&claims, NOW, &mut |_| None), decision);

    let document = object(&claims);
    let granted: Vec<_> = claims.scope.split(' ').collect();
    let has = |scope: &&str| scope.is_empty() || granted.contains(scope);
    let lacks_scope = (!lists.is_empty() && !lists.iter().any(|list| list.iter().all(has)))
        || set
            .iter()
            .any(|(key, values)| *key == "scope" && !values.iter().all(has));
    // The last of several values of a key counts, except for requirements.
    let last = |wanted: &str| {
        set.iter()
            .rfind(|(key, _)| *key == wanted)
            .map(|(_, values)| values)
    };
    let is_one_of = |key, said: Option<&str>| {
        last(key).is_none_or(|values| said.is_some_and(|said| values.contains(&said)))
    };
    match decision {
        Ok(()) => {
            assert!(!lacks_scope);
            assert!(is_one_of("issuer", document["iss"].as_str()));
            assert!(is_one_of("acr", document["acr"].as_str()));
            assert!(is_one_of("client", claims.client_id.as_deref()));
            assert!(last("audience").is_none_or(|values| {
                claims
                    .aud
                    .iter()
                    .any(|audience| values.contains(&&**audience))
            }));
            if let Some(max_age) = policy.max_age() {
                let since = document.get("auth_time").filter(|time| !time.is_null());
                let since = since.or_else(|| document.get("iat")).expect("it says when");
                if let Some(since) = since.as_i64() {
                    let age = i128::from(NOW) - i128::from(since);
                    assert!(age >= -60 && age <= i128::from(max_age.as_secs()));
                }
            }
            for (_, values) in set.iter().filter(|(key, _)| *key == "require") {
                let [path, values @ ..] = &**values else {
                    panic!("a requirement without a path");
                };
                assert_required(&document, path, values);
            }
        }
        Err(denial) => {
            assert!(denial.reason.bytes().all(|byte| byte.is_ascii_graphic()));
            assert!([401, 403].contains(&denial.kind.http_status()));
            match denial.kind {
                RequirementKind::Scope => assert!(lacks_scope),
                RequirementKind::Issuer => assert!(!is_one_of("issuer", document["iss"].as_str())),
                RequirementKind::Acr => assert!(!is_one_of("acr", document["acr"].as_str())),
                RequirementKind::Client => {
                    assert!(!is_one_of("client", claims.client_id.as_deref()))
                }
                _ => {}
            }
        }
    }
}

/// Asserts that a token meets a requirement.
fn assert_required(document: &Value, path: &str, values: &[&str]) {
    let names: Vec<_> = path.split('.').collect();
    let mut found = Vec::new();
    search(document, &names, &mut found, &mut false);
    let mut scalars = Vec::new();
    let objects = found.iter().any(|value| flatten(value, &mut scalars));
    if values.is_empty() {
        assert!(
            objects
                || scalars
                    .iter()
                    .any(|value| **value != false && **value != "")
        );
    } else if values.iter().all(|value| !value.starts_with('~')) {
        let text = |value: &Value| {
            value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned)
        };
        assert!(scalars.iter().any(|value| values.contains(&&*text(value))));
    }
}

/// The values that a path leads to: by the longest existing name, and through lists.
fn search<'a>(value: &'a Value, names: &[&str], found: &mut Vec<&'a Value>, listed: &mut bool) {
    match value {
        _ if names.is_empty() => found.push(value),
        Value::Object(members) => {
            for count in (1..=names.len()).rev() {
                let (name, rest) = names.split_at(count);
                if let Some(member) = members.get(&name.join(".")).filter(|it| !it.is_null()) {
                    return search(member, rest, found, listed);
                }
            }
        }
        Value::Array(elements) => {
            let before = found.len();
            for element in elements {
                search(element, names, found, listed);
            }
            *listed |= found.len() > before;
        }
        _ => {}
    }
}

/// All values in a value that are neither lists nor null nor objects, in order; whether there is an object in it.
fn flatten<'a>(value: &'a Value, scalars: &mut Vec<&'a Value>) -> bool {
    match value {
        Value::Array(elements) => {
            let mut objects = false;
            for element in elements {
                objects |= flatten(element, scalars);
            }
            objects
        }
        Value::Object(_) => true,
        Value::Null => false,
        scalar => {
            scalars.push(scalar);
            false
        }
    }
}

fn object(claims: &Claims) -> Value {
    Value::Object(claims.members().clone())
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("it is JSON")
}

fn first_line(input: &[u8]) -> Option<(&str, &str)> {
    std::str::from_utf8(input).ok()?.split_once('\n')
}
