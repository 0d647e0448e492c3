use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const NOW: i64 = 1_700_000_000;

fn claims(value: Value) -> Claims {
    Claims::from_json(&value.to_string()).unwrap()
}

fn requirements(parts: &[(&str, &[&str])]) -> TokenRequirements {
    let mut requirements = TokenRequirements::default();
    for (key, values) in parts {
        requirements.set(key, values).unwrap();
    }
    requirements
}

/// The reason for a denial, or `ok`.
fn checked(requirements: &TokenRequirements, token: Value) -> String {
    match requirements.check(&claims(token), NOW, &mut |_| None) {
        Ok(()) => "ok".to_owned(),
        Err(denial) => denial.reason.to_owned(),
    }
}

/// Whether a token meets a requirement on a claim.
fn meets(path: &str, values: &[&str], token: Value) -> bool {
    let mut arguments = vec![path];
    arguments.extend(values);
    let requirements = requirements(&[("require", &arguments)]);
    requirements
        .check(&claims(token), NOW, &mut |_| None)
        .is_ok()
}

fn text_at(path: &str, token: Value) -> Option<String> {
    let mut out = String::from("before ");
    let path = ClaimPath::parse(path).unwrap();
    let written = path.text(&claims(token), &mut out);
    let text = out.strip_prefix("before ").unwrap().to_owned();
    assert!(written || text.is_empty(), "nothing is left behind");
    written.then_some(text)
}

#[test]
fn where_nothing_is_asked_every_token_passes() {
    let requirements = TokenRequirements::default();
    assert!(requirements.is_empty());
    assert_eq!(checked(&requirements, json!({})), "ok");
    assert_eq!(
        (requirements.scopes_advertised(), requirements.acr_values()),
        ("", "")
    );
    assert_eq!(requirements.max_age(), None);
    assert!(requirements.scopes_supported().is_empty());
}

#[test]
fn each_part_that_is_set_must_hold_and_is_named_when_it_does_not() {
    let good = json!({
        "scope": "read write", "aud": ["other", "api"], "iss": "https://as.example.com", "client_id": "web",
        "tenant": "acme", "acr": "gold", "auth_time": NOW - 10,
    });
    for (key, values, reason, kind, status, error) in [
        (
            "scopes",
            &["read"][..],
            "scope:read",
            RequirementKind::Scope,
            403,
            "insufficient_scope",
        ),
        (
            "scope",
            &["read"],
            "scope:read",
            RequirementKind::Scope,
            403,
            "insufficient_scope",
        ),
        (
            "audience",
            &["api"],
            "audience",
            RequirementKind::Audience,
            401,
            "invalid_token",
        ),
        (
            "issuer",
            &["https://as.example.com"],
            "issuer",
            RequirementKind::Issuer,
            401,
            "invalid_token",
        ),
        (
            "client",
            &["app", "web"],
            "client",
            RequirementKind::Client,
            403,
            "insufficient_scope",
        ),
        (
            "require",
            &["tenant", "acme"],
            "claim:tenant",
            RequirementKind::Claim,
            403,
            "insufficient_scope",
        ),
        (
            "acr",
            &["silver", "gold"],
            "acr",
            RequirementKind::Acr,
            401,
            "insufficient_user_authentication",
        ),
        (
            "max_age",
            &["5m"],
            "max_age",
            RequirementKind::MaxAge,
            401,
            "insufficient_user_authentication",
        ),
    ] {
        let requirements = requirements(&[(key, values)]);
        assert!(!requirements.is_empty(), "{key}");
        assert_eq!(checked(&requirements, good.clone()), "ok", "{key}");
        let none = claims(json!({}));
        let denial = requirements.check(&none, NOW, &mut |_| None).unwrap_err();
        assert_eq!(denial, UnmetRequirement { kind, reason });
        assert_eq!((kind.http_status(), kind.error().as_str()), (status, error));
    }
}

#[test]
fn a_token_for_others_is_said_first_and_nobody_logs_in_again_in_vain() {
    let requirements = requirements(&[
        ("max_age", &["1m"]),
        ("acr", &["gold"]),
        ("require", &["tenant"]),
        ("scopes", &["read"]),
        ("client", &["web"]),
        ("audience", &["api"]),
        ("issuer", &["as"]),
    ]);
    let mut token = json!({});
    for (reason, name, value) in [
        ("issuer", "iss", json!("as")),
        ("audience", "aud", json!("api")),
        ("client", "azp", json!("web")),
        ("scope:read", "scp", json!(["read"])),
        ("claim:tenant", "tenant", json!("acme")),
        ("acr", "acr", json!("gold")),
        ("max_age", "iat", json!(NOW)),
    ] {
        assert_eq!(checked(&requirements, token.clone()), reason);
        token[name] = value;
    }
    assert_eq!(checked(&requirements, token), "ok");
}

#[test]
fn the_scopes_of_one_line_suffice_and_some_are_needed_in_any_case() {
    for parts in [
        [
            ("scopes", &["read", "list"][..]),
            ("scopes", &["admin"]),
            ("scope", &["api"]),
        ],
        [
            ("scope", &["api"]),
            ("scopes", &["read", "list"]),
            ("scopes", &["admin"]),
        ],
    ] {
        let requirements = requirements(&parts);
        for (granted, expected) in [
            ("read list api", "ok"),
            ("api admin", "ok"),
            ("read list", "scope:api"),
            ("admin", "scope:read"),
            ("read api", "scope:list"),
            ("", "scope:read"),
        ] {
            assert_eq!(
                checked(&requirements, json!({"scope": granted})),
                expected,
                "{granted}"
            );
        }
        assert_eq!(requirements.scopes_advertised(), "read list api");
        assert_eq!(
            requirements.scopes_supported(),
            ["read", "list", "api", "admin"]
        );
    }
}

#[test]
fn audience_issuer_client_and_acr_are_compared_to_the_last_byte() {
    for (key, name) in [
        ("audience", "aud"),
        ("issuer", "iss"),
        ("client", "client_id"),
        ("acr", "acr"),
    ] {
        let requirements = requirements(&[(key, &["https://a.example"])]);
        for other in [
            "https://a.example/",
            "https://A.example",
            "https://a.exampl",
            " https://a.example",
            "https://a.example https://a.example",
            "",
        ] {
            assert_eq!(
                checked(&requirements, json!({name: other})),
                key,
                "{other:?}"
            );
        }
        assert_eq!(
            checked(&requirements, json!({name: "https://a.example"})),
            "ok"
        );
    }
    let requirements = requirements(&[("acr", &["gold"])]);
    for acr in [
        json!(["gold"]),
        json!(1),
        json!(true),
        json!({"gold": 1}),
        json!(null),
    ] {
        assert_eq!(checked(&requirements, json!({"acr": acr})), "acr");
    }
}

#[test]
fn the_age_is_that_of_the_authentication_or_else_of_the_token() {
    let requirements = requirements(&[("max_age", &["5m"])]);
    for (token, expected) in [
        (json!({"auth_time": NOW}), "ok"),
        (json!({"auth_time": NOW - 300}), "ok"),
        (json!({"auth_time": NOW - 301}), "max_age"),
        (json!({"iat": NOW - 300}), "ok"),
        (json!({"iat": NOW - 301}), "max_age"),
        // Renewing a token does not renew its user's login, nor the other way round.
        (json!({"iat": NOW, "auth_time": NOW - 301}), "max_age"),
        (json!({"iat": NOW - 301, "auth_time": NOW - 300}), "ok"),
        (json!({"auth_time": (NOW - 10).to_string()}), "ok"),
        (json!({"auth_time": NOW + 60}), "ok"),
        (json!({"auth_time": NOW + 61}), "max_age"),
        (json!({"iat": NOW + 61}), "max_age"),
        // In milliseconds, a common mistake.
        (json!({"iat": NOW * 1000}), "max_age"),
        (json!({"iat": NOW, "auth_time": "yesterday"}), "max_age"),
        (json!({"iat": NOW, "auth_time": true}), "max_age"),
        (json!({"iat": NOW, "auth_time": null}), "ok"),
        (json!({"auth_time": i64::MIN}), "max_age"),
        (json!({"exp": NOW + 10}), "max_age"),
    ] {
        assert_eq!(checked(&requirements, token.clone()), expected, "{token}");
    }
    let mut requirements = TokenRequirements::default();
    requirements.set_max_age(Duration::MAX);
    assert_eq!(checked(&requirements, json!({"iat": 0})), "ok");
    assert_eq!(checked(&requirements, json!({})), "max_age");
}

#[test]
fn a_claim_is_one_of_the_values_or_contains_one() {
    for (claim, value, expected) in [
        (json!("acme"), "acme", true),
        (json!("acme"), "Acme", false),
        (json!("acme "), "acme", false),
        (json!(["x", "acme"]), "acme", true),
        (json!([["x", ["acme"]]]), "acme", true),
        (json!(["x", "y"]), "acme", false),
        (json!([]), "acme", false),
        (json!({"acme": true}), "acme", false),
        (json!(null), "null", false),
        (json!([null]), "null", false),
        (json!({}), "{}", false),
        (json!([]), "[]", false),
        (json!(7), "7", true),
        (json!("7"), "7", true),
        (json!(7), "7.0", false),
        (json!(-7), "-7", true),
        (json!(1.5), "1.5", true),
        (json!(u64::MAX), "18446744073709551615", true),
        (json!(f64::MIN_POSITIVE), "2.2250738585072014e-308", true),
        (json!(true), "true", true),
        (json!(true), "1", false),
        (json!(false), "false", true),
        (json!("a\u{0}b"), "a", false),
        (json!("größe"), "größe", true),
    ] {
        assert_eq!(
            meets("c", &[value], json!({"c": claim})),
            expected,
            "{claim} {value}"
        );
        assert_eq!(meets("c", &["other", value], json!({"c": claim})), expected);
    }
    assert!(!meets("c", &["x"], json!({})));
}

#[test]
fn without_values_a_claim_must_be_there_and_say_something() {
    for (claim, there) in [
        (json!("x"), true),
        (json!(0), true),
        (json!(true), true),
        (json!([""]), false),
        (json!(["", "x"]), true),
        (json!({"a": null}), true),
        (json!(false), false),
        (json!(null), false),
        (json!(""), false),
        (json!([]), false),
        (json!([false, null, []]), false),
        (json!({}), false),
    ] {
        assert_eq!(meets("c", &[], json!({"c": claim})), there, "{claim}");
    }
    assert!(!meets("c", &[], json!({"d": 1})));
    // A value that the host does not have is not an omitted value.
    let mut requirements = TokenRequirements::default();
    requirements
        .add_requirement("c", vec![Expected::Slot(0)])
        .unwrap();
    assert_eq!(checked(&requirements, json!({"c": "x"})), "claim:c");
}

#[test]
fn several_requirements_must_all_hold() {
    let requirements = requirements(&[("require", &["a", "1"]), ("require", &["b", "2"])]);
    assert_eq!(checked(&requirements, json!({"a": 1, "b": 2})), "ok");
    assert_eq!(checked(&requirements, json!({"a": 1})), "claim:b");
    assert_eq!(checked(&requirements, json!({"b": 2})), "claim:a");
}

#[test]
fn a_path_leads_into_objects_and_through_lists() {
    let token = json!({
        "realm_access": {"roles": ["user", "admin"]},
        "https://example.com/roles": ["editor"],
        "authorization_details": [
            {"type": "account", "actions": ["read"]},
            "noise", null, 7,
            [{"type": "payment", "actions": ["write"]}],
        ],
        "a.b": {"c": "long"}, "a": {"b": {"c": "short", "d": "hidden"}, "x": "seen"},
        "n.m": null, "n": {"m": "behind null"},
        "": {"": "empty"},
    });
    for (path, value, expected) in [
        ("realm_access.roles", "admin", true),
        ("realm_access.roles", "root", false),
        ("realm_access", "roles", false),
        ("realm_access.roles.admin", "admin", false),
        ("roles", "admin", false),
        ("https://example.com/roles", "editor", true),
        ("authorization_details.type", "account", true),
        ("authorization_details.type", "payment", true),
        ("authorization_details.actions", "write", true),
        ("authorization_details", "noise", true),
        ("authorization_details.0.type", "account", false),
        // The longest matching name counts, without backtracking.
        ("a.b.c", "long", true),
        ("a.b.c", "short", false),
        ("a.b.d", "hidden", false),
        ("a.x", "seen", true),
        ("n.m", "behind null", true),
        ("a..x", "seen", false),
    ] {
        assert_eq!(
            meets(path, &[value], token.clone()),
            expected,
            "{path} {value}"
        );
    }
}

#[test]
fn a_regular_expression_matches_anywhere_unless_it_has_anchors() {
    for (pattern, claim, expected) in [
        ("~dm", "admin", true),
        ("~^adm", "admin", true),
        ("~^dm", "admin", false),
        ("~^admin$", "admin\n", false),
        ("~^admin$", "root\nadmin", false),
        ("~ADMIN", "admin", false),
        ("~*ADMIN", "admin", true),
        // ASCII only: neither the Kelvin sign nor Arabic digits.
        ("~*^k$", "\u{212a}", false),
        (r"~^\d+$", "\u{0663}", false),
        (r"~^\d+$", "42", true),
        ("~^~text$", "~text", true),
        ("~^.{2}$", "é", true),
    ] {
        assert_eq!(
            meets("c", &[pattern], json!({"c": [claim]})),
            expected,
            "{pattern} {claim}"
        );
    }
    assert!(meets("c", &["~^4.$"], json!({"c": 42})));
    assert!(!meets("c", &["~."], json!({"c": {"a": "x"}})));
}

#[test]
fn a_hosts_value_is_compared_as_it_is_and_an_odd_one_is_equal_to_nothing() {
    let mut requirements = TokenRequirements::default();
    requirements
        .add_requirement(
            "c",
            vec![Expected::parse("fixed").unwrap(), Expected::Slot(3)],
        )
        .unwrap();
    let check = |claim: &str, value: Option<&[u8]>| {
        let claims = claims(json!({"c": ["x", claim]}));
        let mut asked = 0;
        let passes = requirements
            .check(&claims, NOW, &mut |slot| {
                assert_eq!(slot, 3);
                asked += 1;
                value
            })
            .is_ok();
        (passes, asked)
    };
    assert_eq!(check("acme", Some(b"acme")), (true, 1));
    assert_eq!(check("acme", Some(b"ACME")), (false, 1));
    assert_eq!(check("acme", Some(b"~.*")), (false, 1));
    assert_eq!(check("acme", None), (false, 1));
    assert_eq!(
        check("fixed", None),
        (true, 0),
        "it is asked only if it matters"
    );
    for odd in ["", "a\0", "a\r", "a\n", "\n"] {
        assert_eq!(check(odd, Some(odd.as_bytes())), (false, 1), "{odd:?}");
    }
    assert_eq!(check("\u{fffd}", Some(b"\xff")), (false, 1));
}

#[test]
fn the_reason_is_one_word_of_printable_ascii() {
    for (path, reason) in [
        ("realm_access.roles", "claim:realm_access.roles"),
        (
            "https://example.com/roles",
            "claim:https://example.com/roles",
        ),
        ("my claim", "claim:my_claim"),
        ("gr\u{f6}\u{df}e", "claim:gr__e"),
        ("a\"b\\c", "claim:a_b_c"),
    ] {
        assert_eq!(
            checked(&requirements(&[("require", &[path])]), json!({})),
            reason
        );
    }
}

#[test]
fn each_part_that_is_not_set_is_taken_from_above() {
    let above = requirements(&[
        ("scopes", &["read"]),
        ("scope", &["api"]),
        ("audience", &["api"]),
        ("issuer", &["as"]),
        ("client", &["web"]),
        ("require", &["tenant", "acme"]),
        ("acr", &["gold"]),
        ("max_age", &["5m"]),
    ]);
    let mut bare = TokenRequirements::default();
    bare.inherit(&above);
    assert_eq!(format!("{bare:?}"), format!("{above:?}"));

    for (own, lacking) in [
        (("scope", &["own"][..]), "scope:own"),
        (("scopes", &["own"]), "scope:own"),
        (("audience", &["own"]), "audience"),
        (("issuer", &["own"]), "issuer"),
        (("client", &["own"]), "client"),
        (("require", &["own"]), "claim:own"),
        (("acr", &["own"]), "acr"),
        (("max_age", &["1s"]), "max_age"),
    ] {
        let mut requirements = requirements(&[own]);
        requirements.inherit(&above);
        let token = json!({
            "scope": "read api", "aud": "api", "iss": "as", "client_id": "web", "tenant": "acme", "acr": "gold",
            "iat": NOW - 10,
        });
        assert_eq!(checked(&above, token.clone()), "ok");
        assert_eq!(checked(&requirements, token), lacking);
    }
    let mut own = requirements(&[("scope", &["own"])]);
    own.inherit(&above);
    assert_eq!(own.scopes_advertised(), "read own");
    assert_eq!(own.acr_values(), "gold");
    assert_eq!(own.max_age(), Some(Duration::from_secs(300)));
}

#[test]
fn what_is_added_below_takes_nothing_away_that_is_asked_above() {
    let above = requirements(&[
        ("scopes", &["read"]),
        ("scope", &["api"]),
        ("require", &["tenant", "acme"]),
        ("require", &["role", "clerk"]),
    ]);
    let below = |own: &[(&str, &[&str])]| {
        let mut requirements = requirements(own);
        requirements.inherit(&above);
        requirements
    };
    let token = |scope, tenant, role| json!({ "scope": scope, "tenant": tenant, "role": role });
    let scopes = below(&[("scopes", &["write"])]);
    assert_eq!(checked(&scopes, token("write api", "acme", "clerk")), "ok");
    assert_eq!(
        checked(&scopes, token("write", "acme", "clerk")),
        "scope:api"
    );
    let scope = below(&[("scope", &["admin"])]);
    assert_eq!(checked(&scope, token("read admin", "acme", "clerk")), "ok");
    assert_eq!(
        checked(&scope, token("admin", "acme", "clerk")),
        "scope:read"
    );
    // For each claim, the requirement of the nearest level counts.
    let role = below(&[("require", &["role", "manager"])]);
    assert_eq!(checked(&role, token("read api", "acme", "manager")), "ok");
    assert_eq!(
        checked(&role, token("read api", "acme", "clerk")),
        "claim:role"
    );
    assert_eq!(
        checked(&role, token("read api", "other", "manager")),
        "claim:tenant"
    );
}

#[test]
fn what_cannot_be_is_refused_with_the_mend_and_changes_nothing() {
    for (key, values, message) in [
        (
            "scop",
            &["x"][..],
            r#"there is no key "scop"; did you mean "scope"?"#,
        ),
        (
            "x",
            &["x"],
            r#"there is no key "x"; the keys are: scopes, scope, scopes_enforce, audience, issuer, client, require, acr, max_age"#,
        ),
        ("scopes", &[], "scopes: a scope is missing"),
        ("scope", &[" "], "scope: a scope is missing"),
        (
            "scopes",
            &["a\"b"],
            r#"scopes: "a\"b" will not do: a scope is made of printable ASCII without space, quote and backslash"#,
        ),
        ("audience", &[], "audience: a value is missing"),
        ("issuer", &["ok", ""], "issuer: a value is empty"),
        (
            "client",
            &["a\r\nb"],
            r#"client: "a\r\nb" has a control character"#,
        ),
        (
            "acr",
            &["a b"],
            r#"acr: "a b" is not made of printable ASCII without spaces"#,
        ),
        ("acr", &[], "acr: a value is missing"),
        (
            "max_age",
            &["soon"],
            r#"max_age: "soon" is not a time: write it as 500ms, 5s or 1m"#,
        ),
        (
            "max_age",
            &["0"],
            r#"max_age: "0" lets no token pass: write at least 1s"#,
        ),
        (
            "max_age",
            &["5m", "6m"],
            "max_age: one time is needed, such as 5m",
        ),
        ("require", &[], "require: the name of a claim is missing"),
        (
            "require",
            &[""],
            r#"require: "" is not a claim: write its name, or names with dots between them"#,
        ),
        (
            "require",
            &["a."],
            r#"require: "a." is not a claim: write its name, or names with dots between them"#,
        ),
        (
            "require",
            &["a\n"],
            r#"require: "a\n" is not a claim: it has a control character"#,
        ),
        (
            "require",
            &["a", ""],
            "require: a value is empty: leave it out to ask only that the claim is there",
        ),
        (
            "require",
            &["a", "!~x"],
            r#"require: "!~x" says what must not be: only what must be can be required"#,
        ),
        (
            "require",
            &["a", "~"],
            r#"require: a regular expression is missing after "~""#,
        ),
        (
            "require",
            &["a", "x\n"],
            r#"require: "x\n" has a control character"#,
        ),
        (
            "require",
            &["a", "~(b"],
            r#"require: "(b" is not a regular expression: unclosed group"#,
        ),
        (
            "require",
            &["a", "~(?=b)"],
            r#"require: "(?=b)" is not a regular expression: look-around, including look-ahead and look-behind, is not supported"#,
        ),
    ] {
        let mut requirements = requirements(&[("scope", &["x"])]);
        let before = format!("{requirements:?}");
        let refused = requirements.set(key, values).unwrap_err();
        assert_eq!(refused.to_string(), message);
        assert_eq!(format!("{requirements:?}"), before, "{message}");
    }
    for huge in ["~(a{1000}){1000}", "~((a{100}){100}){100}"] {
        let refused = TokenRequirements::default()
            .set("require", &["a", huge])
            .unwrap_err();
        assert!(
            refused.to_string().contains("is not a regular expression"),
            "{refused}"
        );
    }
}

#[test]
fn a_claims_text_is_what_a_header_may_hold() {
    for (claim, text) in [
        (json!("alice"), Some("alice")),
        (json!("two words"), Some("two words")),
        (json!("größe"), Some("größe")),
        (json!(""), Some("")),
        (json!(7), Some("7")),
        (json!(1.5), Some("1.5")),
        (json!(false), Some("false")),
        (json!(["a", 1, true]), Some("a 1 true")),
        (json!([["a"], ["b", null]]), Some("a b")),
        (json!({"a": "b c"}), Some(r#"{"a":"b c"}"#)),
        (json!([{"a": 1}, "x"]), Some(r#"[{"a":1},"x"]"#)),
        (json!(null), None),
        (json!([]), None),
        (json!([null]), None),
        // One value must not look like two values.
        (json!(["a b"]), None),
        (json!(["a", "b\u{a0}c"]), None),
        (json!(["a", ""]), None),
        (json!("a\r\nX-Admin: 1"), None),
        (json!("a\0"), None),
        (json!("a\t"), None),
        (json!("a\u{7f}"), None),
        (json!("a\u{85}"), None),
        (json!(["a", "b\n"]), None),
        (json!({"a": "b\u{7f}"}), None),
        // Escaped, and so safe.
        (json!({"a": "b\n"}), Some(r#"{"a":"b\n"}"#)),
    ] {
        assert_eq!(
            text_at("c", json!({"c": claim})).as_deref(),
            text,
            "{claim}"
        );
        assert_eq!(text_at("o.c", json!({"o": {"c": claim}})).as_deref(), text);
    }
    assert_eq!(text_at("c", json!({})), None);
    let details = json!({"d": [{"t": "a", "o": {"x": 1}, "s": "x y"}, {"t": ["b"]}]});
    assert_eq!(text_at("d.t", details.clone()).as_deref(), Some("a b"));
    assert_eq!(
        text_at("d.o", details.clone()).as_deref(),
        Some(r#"[{"x":1}]"#)
    );
    assert_eq!(text_at("d.s", details), None, "it stands in a list");
}

/// Any JSON, with few names so that paths match.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        // Larger numbers are not read.
        (-1e15..1e15).prop_map(Value::from),
        "[a-c ]{0,3}".prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[ab.]{1,3}", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_a_token_says_and_a_path_asks_something_safe_comes_out(
        value in any_json(), path in "[ab.]{1,7}",
    ) {
        let Ok(path) = ClaimPath::parse(&path) else { return Ok(()) };
        let claims = claims(json!({"a": value}));
        let mut out = String::new();
        if path.text(&claims, &mut out) {
            prop_assert!(!out.contains(char::is_control), "{:?}", out);
            prop_assert_eq!(out.trim(), &out);
            prop_assert!(path.any(&claims, &mut |_, _| true));
        } else {
            prop_assert!(out.is_empty());
        }
    }

    #[test]
    fn a_word_that_a_variable_shows_is_one_that_a_requirement_finds(words in proptest::collection::vec("[a-z]{1,4}", 1..5)) {
        let token = json!({"c": words});
        let text = text_at("c", token.clone()).unwrap();
        for word in text.split(' ') {
            prop_assert!(meets("c", &[word], token.clone()));
        }
        prop_assert_eq!(text, words.join(" "));
    }

    #[test]
    fn a_text_is_required_exactly(wanted in "\\PC{1,8}", claim in "\\PC{0,8}") {
        prop_assume!(!wanted.starts_with('~') && !wanted.starts_with("!~"));
        prop_assert_eq!(meets("c", &[&wanted], json!({"c": wanted})), true);
        prop_assert_eq!(meets("c", &[&wanted], json!({"c": claim})), wanted == claim);
    }

    #[test]
    fn number_texts_are_those_of_json(number in -1e15..1e15) {
        let text = json!(number).to_string();
        prop_assert_eq!(meets("c", &[&text], json!({"c": number})), true);
    }

    #[test]
    fn exactly_the_tokens_with_the_scopes_of_one_line_pass(
        lines in proptest::collection::vec(proptest::collection::btree_set("[a-c]", 1..3), 1..4),
        always in proptest::option::of("[a-d]"),
        held in proptest::collection::btree_set("[a-d]", 0..5),
    ) {
        let mut requirements = TokenRequirements::default();
        for line in &lines {
            let line: Vec<_> = line.iter().map(String::as_str).collect();
            requirements.set("scopes", &line).unwrap();
        }
        if let Some(scope) = &always {
            requirements.set("scope", &[scope]).unwrap();
        }
        let passes = always.iter().all(|scope| held.contains(scope))
            && lines.iter().any(|line| line.is_subset(&held));
        let scope = held.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
        prop_assert_eq!(checked(&requirements, json!({"scope": scope})) == "ok", passes);
    }

    #[test]
    fn no_policy_text_makes_it_fall_over(key in proptest::sample::select(&KEYS), values in proptest::collection::vec(any::<String>(), 0..4)) {
        let values: Vec<_> = values.iter().map(String::as_str).collect();
        let mut requirements = TokenRequirements::default();
        if requirements.set(key, &values).is_ok() {
            let denied = checked(&requirements, json!({}));
            prop_assert!(denied.bytes().all(|byte| byte.is_ascii_graphic()), "{}", denied);
            prop_assert!(denied != "ok", "nothing passes by a requirements that asks for something");
        } else {
            prop_assert!(requirements.is_empty());
        }
    }
}

#[test]
fn scopes_that_are_not_enforced_are_advertised_and_everything_else_still_holds() {
    let mut requirements = TokenRequirements::default();
    requirements.set("scopes", &["read", "write"]).unwrap();
    requirements.set("scopes_enforce", &["off"]).unwrap();
    requirements.set("audience", &["api"]).unwrap();
    let claims = Claims::from_json(r#"{"scope": "other", "aud": "api"}"#).unwrap();
    assert!(requirements.check(&claims, 0, &mut |_| None).is_ok());
    assert_eq!(requirements.scopes_advertised(), "read write");
    let claims = Claims::from_json(r#"{"scope": "read write"}"#).unwrap();
    let denial = requirements.check(&claims, 0, &mut |_| None).unwrap_err();
    assert_eq!(denial.kind, RequirementKind::Audience);

    // It is inherited like any other part, and set again below.
    let mut below = TokenRequirements::default();
    below.set("scope", &["admin"]).unwrap();
    below.inherit(&requirements);
    let claims = Claims::from_json(r#"{"aud": "api"}"#).unwrap();
    assert!(below.check(&claims, 0, &mut |_| None).is_ok());
    below.set("scopes_enforce", &["on"]).unwrap();
    let denial = below.check(&claims, 0, &mut |_| None).unwrap_err();
    assert_eq!(denial.kind, RequirementKind::Scope);
    assert!(below.set("scopes_enforce", &["maybe"]).is_err());
}
