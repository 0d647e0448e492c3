//! Scopes (RFC 6749 §3.3).

/// The scopes that a location requires (RFC 6749 §3.3): all of them must be granted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct RequiredScopes {
    /// Each with the prefix [`REASON`], so that the reason for a denial needs no allocation.
    scopes: Vec<Box<str>>,
    /// All scopes, separated by one space, as a challenge advertises them.
    joined: String,
}

/// The prefix of a scope in the reason for a denial.
const REASON: &str = "scope:";

/// A scope that RFC 6749 §3.3 does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BadScope;

impl std::fmt::Display for BadScope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a scope is made of printable ASCII without space, quote and backslash")
    }
}

impl std::error::Error for BadScope {}

impl RequiredScopes {
    /// Adds the scopes of a list separated by spaces. After an error nothing is changed.
    ///
    /// # Errors
    /// [`BadScope`] when the list is empty, or a scope has a byte that RFC 6749 §3.3 does not allow.
    fn add(&mut self, list: &str) -> Result<(), BadScope> {
        let scopes: Vec<_> = list.split(' ').filter(|scope| !scope.is_empty()).collect();
        if scopes.is_empty() || !scopes.iter().all(|scope| is_scope(scope)) {
            return Err(BadScope);
        }
        self.push(scopes.into_iter());
        Ok(())
    }

    /// Adds the scopes of another list.
    fn extend(&mut self, others: &RequiredScopes) {
        self.push(others.iter());
    }

    fn push<'s>(&mut self, scopes: impl Iterator<Item = &'s str>) {
        for scope in scopes {
            if !self.iter().any(|known| known == scope) {
                self.scopes.push(format!("{REASON}{scope}").into());
            }
        }
        self.joined = self.iter().collect::<Vec<_>>().join(" ");
    }

    /// Whether nothing is required.
    fn is_empty(&self) -> bool {
        self.scopes.is_empty()
    }

    /// All scopes, separated by one space.
    fn as_str(&self) -> &str {
        &self.joined
    }

    /// Each scope.
    fn iter(&self) -> impl Iterator<Item = &str> {
        self.scopes.iter().map(|reason| &reason[REASON.len()..])
    }

    /// The first scope that was not granted, as the reason for a denial: `scope:write`.
    fn lacking(&self, granted: &str) -> Option<&str> {
        self.scopes.iter().map(|reason| &**reason).find(|reason| {
            let required = &reason[REASON.len()..];
            !granted.split(' ').any(|granted| granted == required)
        })
    }
}

/// The scopes that a location requires: those of one of several lists, and scopes that are always required.
#[derive(Debug, Clone, Default)]
pub(super) struct Scopes {
    lists: Vec<RequiredScopes>,
    always: RequiredScopes,
    /// Each list together with the scopes that are always required; empty when nothing is required.
    alternatives: Vec<RequiredScopes>,
}

impl Scopes {
    /// Adds one alternative: all scopes of a list.
    pub(super) fn add_list(&mut self, list: &str) -> Result<(), BadScope> {
        let mut scopes = RequiredScopes::default();
        scopes.add(list)?;
        self.lists.push(scopes);
        self.combine();
        Ok(())
    }

    /// Adds scopes that are required with every alternative.
    pub(super) fn add_always(&mut self, list: &str) -> Result<(), BadScope> {
        self.always.add(list)?;
        self.combine();
        Ok(())
    }

    /// Inherits from the level above: the lists, if there are none here, and likewise the scopes that are always
    /// required.
    pub(super) fn inherit(&mut self, above: &Scopes) {
        if self.lists.is_empty() {
            self.lists.clone_from(&above.lists);
        }
        if self.always.is_empty() {
            self.always.clone_from(&above.always);
        }
        self.combine();
    }

    fn combine(&mut self) {
        self.alternatives.clear();
        for list in &self.lists {
            let mut alternative = list.clone();
            alternative.extend(&self.always);
            self.alternatives.push(alternative);
        }
        if self.lists.is_empty() && !self.always.is_empty() {
            self.alternatives.push(self.always.clone());
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.alternatives.is_empty()
    }

    /// The reason why the granted scopes are insufficient: the first scope of the advertised alternative that is
    /// missing.
    pub(super) fn lacking(&self, granted: &str) -> Option<&str> {
        let mut others = self.alternatives.iter();
        let lacking = others.next()?.lacking(granted)?;
        others
            .all(|scopes| scopes.lacking(granted).is_some())
            .then_some(lacking)
    }

    /// The first alternative, its scopes separated by one space.
    pub(super) fn advertised(&self) -> &str {
        self.alternatives
            .first()
            .map_or("", |scopes| scopes.as_str())
    }

    /// The scopes of all alternatives, without duplicates.
    pub(super) fn union(&self) -> Vec<&str> {
        let mut union = Vec::new();
        for scope in self.alternatives.iter().flat_map(RequiredScopes::iter) {
            if !union.contains(&scope) {
                union.push(scope);
            }
        }
        union
    }
}

fn is_scope(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn required(list: &str) -> RequiredScopes {
        let mut scopes = RequiredScopes::default();
        scopes.add(list).unwrap();
        scopes
    }

    fn missing<'a>(required: &'a RequiredScopes, granted: &str) -> Option<&'a str> {
        let reason = required.lacking(granted)?;
        Some(reason.strip_prefix("scope:").unwrap())
    }

    #[test]
    fn a_token_with_every_required_scope_passes_in_any_order() {
        let scopes = required("read write");
        for scope in ["read write", "write read", "a read b write c"] {
            assert_eq!(missing(&scopes, scope), None, "{scope}");
        }
    }

    #[test]
    fn the_first_scope_that_is_lacking_is_named() {
        let scopes = required("read write");
        for (scope, lacks) in [
            ("", "read"),
            ("write", "read"),
            ("read", "write"),
            ("other", "read"),
        ] {
            assert_eq!(missing(&scopes, scope), Some(lacks), "{scope}");
        }
    }

    #[test]
    fn a_scope_is_granted_by_its_whole_name_alone() {
        for scope in [
            "READ",
            "reader",
            "rea",
            "read:all",
            "xread",
            "read,write",
            "read\twrite",
        ] {
            assert_eq!(missing(&required("read"), scope), Some("read"), "{scope}");
        }
        assert_eq!(missing(&required("read:all"), "read"), Some("read:all"));
    }

    #[test]
    fn where_nothing_is_required_every_token_passes() {
        let scopes = RequiredScopes::default();
        assert!(scopes.is_empty());
        assert_eq!(scopes.as_str(), "");
        assert_eq!(missing(&scopes, ""), None);
    }

    #[test]
    fn lists_add_up_and_each_scope_is_advertised_once() {
        let mut scopes = required("read  write");
        scopes.add(" write admin ").unwrap();
        assert_eq!(scopes.as_str(), "read write admin");
        assert!(!scopes.is_empty());
        assert_eq!(missing(&scopes, "read write"), Some("admin"));
    }

    #[test]
    fn what_rfc_6749_does_not_allow_is_refused_and_changes_nothing() {
        for list in [
            "",
            " ",
            "a\"b",
            "a\\b",
            "a\tb",
            "a\n",
            "\0",
            "\u{e9}",
            "\x7f",
            "ok a\"b",
            "ok\r\nX: y",
        ] {
            let mut scopes = required("read");
            assert_eq!(scopes.add(list), Err(BadScope), "{list:?}");
            assert_eq!(scopes, required("read"), "{list:?}");
        }
        // The edges of %x21 / %x23-5B / %x5D-7E.
        for list in ["!", "#", "[", "]", "~", "https://api.example.com/read"] {
            assert_eq!(required(list).as_str(), list);
        }
    }

    proptest! {
        #[test]
        fn exactly_the_tokens_that_hold_all_scopes_pass(
            wanted in proptest::collection::btree_set("[a-c]{1,2}", 1..4),
            held in proptest::collection::btree_set("[a-c]{1,2}", 0..6),
        ) {
            let join = |set: &std::collections::BTreeSet<String>| {
                set.iter().map(String::as_str).collect::<Vec<_>>().join(" ")
            };
            let missing = missing(&required(&join(&wanted)), &join(&held)).map(String::from);
            prop_assert_eq!(missing.is_none(), wanted.is_subset(&held));
            if let Some(missing) = missing {
                prop_assert!(wanted.contains(&missing) && !held.contains(&missing));
            }
        }
    }
}
