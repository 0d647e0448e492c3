//! The rules of the C ABI, checked on its sources: a reviewer would otherwise have to check them in each function.
//! `tests/c/run.sh` tests the behavior of the functions from C.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CStr;
use std::fs;
use std::path::Path;

use syn::{Attribute, Expr, FnArg, Item, ItemFn, Meta, Pat, ReturnType, Stmt, Type};

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every item of src/ffi, including those in inner modules.
fn items() -> Vec<Item> {
    fn flatten(items: Vec<Item>, into: &mut Vec<Item>) {
        for item in items {
            match item {
                Item::Mod(module) => {
                    flatten(
                        module.content.map(|(_, items)| items).unwrap_or_default(),
                        into,
                    );
                }
                other => into.push(other),
            }
        }
    }
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ffi");
    let mut items = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(
            path.extension().unwrap(),
            "rs",
            "{}: a folder would not be looked into",
            path.display()
        );
        let file = syn::parse_file(&fs::read_to_string(&path).unwrap()).unwrap();
        flatten(file.items, &mut items);
    }
    items
}

/// Every function that C can call.
fn functions() -> Vec<ItemFn> {
    let functions: Vec<ItemFn> = items()
        .into_iter()
        .filter_map(|item| match item {
            Item::Fn(function) if function.sig.abi.is_some() => Some(function),
            _ => None,
        })
        .collect();
    assert!(functions.len() > 30, "only {} found", functions.len());
    functions
}

fn names() -> BTreeSet<String> {
    functions()
        .iter()
        .map(|it| it.sig.ident.to_string())
        .collect()
}

/// The names of functions in C text: the names before a parenthesis, outside comments.
fn declared(header: &str) -> BTreeSet<String> {
    header
        .lines()
        .filter(|line| !line.trim_start().starts_with("//") && !line.contains("typedef"))
        .flat_map(|line| {
            line.match_indices('(')
                .filter_map(|(end, _)| {
                    line[..end]
                        .rsplit(|byte: char| !(byte.is_ascii_alphanumeric() || byte == '_'))
                        .next()
                })
                .filter(|name| name.starts_with("phantom_"))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect()
}

fn documentation(attributes: &[Attribute]) -> Vec<String> {
    attributes
        .iter()
        .filter_map(|attribute| match &attribute.meta {
            Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
                Expr::Lit(syn::ExprLit {
                    lit: syn::Lit::Str(text),
                    ..
                }) => Some(text.value().trim().to_owned()),
                _ => None,
            },
            _ => None,
        })
        .collect()
}

fn is_no_mangle(attribute: &Attribute) -> bool {
    attribute.path().is_ident("unsafe")
        && attribute
            .parse_args::<syn::Path>()
            .is_ok_and(|path| path.is_ident("no_mangle"))
}

/// The parameters that may be NULL: pointers, and callbacks.
fn pointers(function: &ItemFn) -> Vec<String> {
    function
        .sig
        .inputs
        .iter()
        .filter_map(|argument| {
            let FnArg::Typed(argument) = argument else {
                panic!("a method cannot be called from C")
            };
            let Pat::Ident(name) = &*argument.pat else {
                panic!("a pattern has no name in the header")
            };
            let pointer = match &*argument.ty {
                Type::Ptr(_) => true,
                Type::Path(path) => path
                    .path
                    .segments
                    .last()
                    .unwrap()
                    .ident
                    .to_string()
                    .ends_with("_callback"),
                _ => false,
            };
            pointer.then(|| name.ident.to_string())
        })
        .collect()
}

fn returns_status(function: &ItemFn) -> bool {
    matches!(&function.sig.output, ReturnType::Type(_, ty)
        if matches!(&**ty, Type::Path(path) if path.path.is_ident("phantom_status")))
}

#[test]
fn every_function_is_one_call_to_the_panic_boundary() {
    for function in functions() {
        let name = &function.sig.ident;
        let [Stmt::Expr(Expr::Call(call), None)] = function.block.stmts.as_slice() else {
            panic!("{name}: its body is not one expression that calls the boundary");
        };
        let Expr::Path(callee) = &*call.func else {
            panic!("{name}: calls no named function")
        };
        let expected = if returns_status(&function) {
            "boundary"
        } else {
            "boundary_or"
        };
        assert!(
            callee.path.is_ident(expected),
            "{name}: does not call `{expected}`"
        );
        // Code outside the closure is not guarded: only a constant may be there.
        let Some(Expr::Closure(_) | Expr::Path(_)) = call.args.last() else {
            panic!("{name}: its work is not done inside the boundary");
        };
    }
}

#[test]
fn every_function_is_exported_under_its_own_prefixed_name() {
    for function in functions() {
        let name = function.sig.ident.to_string();
        assert!(name.starts_with("phantom_"), "{name}");
        assert!(
            matches!(function.vis, syn::Visibility::Public(_)),
            "{name}: not public"
        );
        assert!(
            function.attrs.iter().any(is_no_mangle),
            "{name}: not #[unsafe(no_mangle)]"
        );
        let abi = function
            .sig
            .abi
            .as_ref()
            .unwrap()
            .name
            .as_ref()
            .unwrap()
            .value();
        assert_eq!(abi, "C", "{name}");
    }
}

#[test]
fn every_function_says_what_its_caller_promises() {
    for function in functions() {
        let name = &function.sig.ident;
        let lines = documentation(&function.attrs);
        assert!(!lines.is_empty(), "{name}: no documentation");
        let safety = lines.iter().position(|line| line == "# Safety");
        assert_eq!(
            safety.is_some(),
            function.sig.unsafety.is_some(),
            "{name}: unsafe, or # Safety, but not both"
        );
        if !pointers(&function).is_empty() {
            let safety =
                safety.unwrap_or_else(|| panic!("{name}: takes pointers without # Safety"));
            let promises = lines[safety..].join(" ");
            for pointer in pointers(&function) {
                // A pointer that is only passed back to a callback is covered by the callback's contract.
                assert!(
                    promises.contains(&format!("`{pointer}`")),
                    "{name}: # Safety says nothing of `{pointer}`"
                );
            }
        }
    }
}

#[test]
fn a_status_must_be_looked_at_unless_ignoring_it_is_safe() {
    // These functions reach their goal whatever status they return.
    let safe = [
        "phantom_client_stop",
        "phantom_client_dispatch",
        "phantom_client_cancel",
    ];
    for function in functions()
        .iter()
        .filter(|function| returns_status(function))
    {
        let name = function.sig.ident.to_string();
        let must_use = function
            .attrs
            .iter()
            .any(|attribute| attribute.path().is_ident("must_use"));
        assert_eq!(must_use, !safe.contains(&name.as_str()), "{name}");
    }
}

#[test]
fn no_function_takes_an_enumeration_because_c_may_pass_any_number() {
    let enumerations: BTreeSet<String> = items()
        .into_iter()
        .filter_map(|item| match item {
            Item::Enum(item) => Some(item.ident.to_string()),
            _ => None,
        })
        .collect();
    assert!(enumerations.contains("phantom_status"));
    for function in functions() {
        for argument in &function.sig.inputs {
            let FnArg::Typed(argument) = argument else {
                continue;
            };
            if let Type::Path(path) = &*argument.ty {
                let name = path.path.segments.last().unwrap().ident.to_string();
                assert!(
                    !enumerations.contains(&name),
                    "{}: takes a {name}",
                    function.sig.ident
                );
            }
        }
    }
}

#[test]
fn the_header_declares_every_function_and_no_other() {
    assert_eq!(declared(&read("include/phantom_token.h")), names());
}

#[test]
fn the_guide_has_every_function_with_the_signature_of_the_header() {
    let guide = read("docs/c-api.md");
    let header = read("include/phantom_token.h");
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let code: String = header
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n");
    let code = plain(&code.replace("PHANTOM_MUST_USE", ""));
    for name in names() {
        let (_, section) = guide
            .split_once(&format!("\n### {name}\n"))
            .unwrap_or_else(|| panic!("docs/c-api.md has no section on {name}"));
        let signature = section.lines().next().unwrap().trim_matches('`');
        assert!(
            code.contains(&format!("{};", plain(signature))),
            "{name}: docs/c-api.md says {signature}"
        );
    }
    let documented: BTreeSet<String> = guide
        .lines()
        .filter_map(|line| line.strip_prefix("### phantom_"))
        .map(|name| format!("phantom_{name}"))
        .collect();
    assert_eq!(
        documented,
        names(),
        "docs/c-api.md has sections on functions that there are not"
    );
}

#[test]
fn null_is_tried_in_every_pointer_of_every_function() {
    let tests = read("tests/c/nulls.c")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    for function in functions() {
        for pointer in pointers(&function) {
            let attempt = format!("NULL_IN({}, {pointer}, ", function.sig.ident);
            assert!(
                tests.contains(&attempt),
                "tests/c/nulls.c lacks {attempt}…)"
            );
        }
    }
}

#[test]
fn every_function_is_called_by_a_test_in_c() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c");
    let tests: String = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension != "sh"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    for name in names() {
        assert!(tests.contains(&format!("{name}(")), "no test calls {name}");
    }
}

/// The constants as the library enumerates them.
fn enumerated() -> BTreeMap<String, i64> {
    let mut constants = BTreeMap::new();
    for index in 0.. {
        let mut value = 0;
        // SAFETY: `value` is a valid place for an i64.
        let name = unsafe { phantom_token::ffi::version::phantom_constant(index, &raw mut value) };
        if name.is_null() {
            break;
        }
        // SAFETY: not NULL, so it is terminated and never freed.
        let name = unsafe { CStr::from_ptr(name) }.to_str().unwrap().to_owned();
        assert_eq!(constants.insert(name.clone(), value), None, "{name} twice");
    }
    constants
}

#[test]
fn the_constants_of_the_header_are_those_that_the_library_enumerates() {
    let header = read("include/phantom_token.h");
    let declared: BTreeMap<String, i64> = header
        .lines()
        .filter_map(|line| {
            let line = line.trim();
            let (name, value) = match line.strip_prefix("#define ") {
                Some(define) => define.split_once(' ')?,
                None => line.strip_suffix(',')?.split_once(" = ")?,
            };
            (name.starts_with("PHANTOM_")).then(|| Some((name.to_owned(), value.parse().ok()?)))?
        })
        .collect();
    assert_eq!(declared, enumerated());
}

/// Numbers that programs have been compiled with. Add to it, and never change or remove a line.
const NUMBERS: &[(&str, i64)] = &[
    ("PHANTOM_OK", 0),
    ("PHANTOM_PENDING", 1),
    ("PHANTOM_NOT_FOUND", 2),
    ("PHANTOM_DENIED", 3),
    ("PHANTOM_INVALID_ARGUMENT", 10),
    ("PHANTOM_INVALID_TOKEN", 11),
    ("PHANTOM_CONFIG", 12),
    ("PHANTOM_SYSTEM", 13),
    ("PHANTOM_UNREACHABLE", 20),
    ("PHANTOM_BAD_ANSWER", 21),
    ("PHANTOM_CLIENT_REFUSED", 22),
    ("PHANTOM_BUSY", 23),
    ("PHANTOM_OVERLOADED", 24),
    ("PHANTOM_TIMEOUT", 25),
    ("PHANTOM_STOPPED", 26),
    ("PHANTOM_FORKED", 27),
    ("PHANTOM_CIRCUIT_OPEN", 28),
    ("PHANTOM_INTERNAL", 30),
    ("PHANTOM_PANIC", 31),
    ("PHANTOM_CACHE_NONE", 0),
    ("PHANTOM_CACHE_HIT", 1),
    ("PHANTOM_CACHE_MISS", 2),
    ("PHANTOM_CACHE_COALESCED", 3),
    ("PHANTOM_CACHE_SHARED", 4),
    ("PHANTOM_CACHE_STALE", 5),
    ("PHANTOM_STAT_HITS", 0),
    ("PHANTOM_STAT_MISSES", 1),
    ("PHANTOM_STAT_COALESCED", 2),
    ("PHANTOM_STAT_INACTIVE", 3),
    ("PHANTOM_STAT_ERRORS", 4),
    ("PHANTOM_STAT_CALLS", 5),
    ("PHANTOM_STAT_RETRIES", 6),
    ("PHANTOM_STAT_IN_FLIGHT", 7),
    ("PHANTOM_STAT_WAITING", 8),
    ("PHANTOM_STAT_ENTRIES", 9),
    ("PHANTOM_STAT_INACTIVE_ENTRIES", 10),
    ("PHANTOM_STAT_BYTES", 11),
    ("PHANTOM_STAT_EVICTIONS", 12),
    ("PHANTOM_STAT_LATENCY_SUM_US", 13),
    ("PHANTOM_STAT_SHARED_HITS", 14),
    ("PHANTOM_STAT_STALE", 15),
    ("PHANTOM_STAT_REFRESHES", 16),
    ("PHANTOM_STAT_BREAKER_OPENINGS", 17),
    ("PHANTOM_STAT_BREAKER_OPEN", 18),
    ("PHANTOM_LOG_ERROR", 1),
    ("PHANTOM_LOG_WARN", 2),
    ("PHANTOM_LOG_INFO", 3),
    ("PHANTOM_STORE_KEY_LENGTH", 32),
    ("PHANTOM_STORE_VALUE_MAX", 1 << 20),
    ("PHANTOM_STORE_FAILURE_MAX", 512),
    ("PHANTOM_STORE_WORDS", 4),
    ("PHANTOM_STORE_ACTIVE", 1),
    ("PHANTOM_STORE_INACTIVE", 2),
    ("PHANTOM_CLAIM_GRANTED", 0),
    ("PHANTOM_CLAIM_HELD", 1),
    ("PHANTOM_CLAIM_FAILED", 2),
];

#[test]
fn numbers_never_change() {
    let mut constants = enumerated();
    for (name, number) in NUMBERS {
        assert_eq!(constants.remove(*name), Some(*number), "{name}");
    }
    constants.retain(|name, _| !name.starts_with("PHANTOM_VERSION_"));
    assert!(constants.is_empty(), "not in the table yet: {constants:?}");
}

#[test]
fn the_guide_has_every_status_with_its_number_and_its_http_status() {
    let guide = read("docs/c-api.md");
    let mut statuses = 0;
    for line in guide
        .lines()
        .filter(|line| line.starts_with("| `PHANTOM_") && !line.contains("_STAT_"))
    {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let name = cells[0].trim_matches('`');
        let number: i32 = cells[1].parse().unwrap();
        let http = if cells[2] == "–" {
            0
        } else {
            cells[2].parse().unwrap()
        };
        assert_eq!(enumerated().get(name), Some(&i64::from(number)), "{name}");
        assert_eq!(
            phantom_token::ffi::status::phantom_status_http(number),
            http,
            "{name}"
        );
        statuses += 1;
    }
    assert_eq!(statuses, 19);
}

#[test]
fn the_guide_has_every_key() {
    let guide = read("docs/c-api.md");
    let policy = phantom_token::gateway::access_policy::AccessPolicy::keys();
    for key in phantom_token::Config::keys().iter().chain(policy) {
        assert!(
            guide.contains(&format!("\n| `{key}` |")),
            "docs/c-api.md lacks {key}"
        );
    }
}

#[test]
fn the_guide_has_every_callback_of_a_store() {
    let guide = read("docs/c-api.md");
    let callbacks: Vec<String> = items()
        .into_iter()
        .find_map(|item| match item {
            Item::Struct(table) if table.ident == "phantom_store" => Some(table.fields),
            _ => None,
        })
        .expect("there is a phantom_store")
        .into_iter()
        .filter_map(|field| field.ident.map(|name| name.to_string()))
        .filter(|name| name != "size" && name != "context")
        .collect();
    assert!(callbacks.len() >= 9, "{callbacks:?}");
    for name in callbacks {
        assert!(
            guide.contains(&format!("\n| `{name}` | ")),
            "docs/c-api.md lacks the callback {name}"
        );
    }
}
