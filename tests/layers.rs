//! The rooms of the code depend on each other in one direction only, and the docs show these dependencies.
//!
//! A room is a module directly below `src/` (a folder or a file), in the core crate and in the nginx module. The test
//! reads a room's dependencies from its paths that begin with `crate::`; code for tests alone does not count.
//!
//! `PHANTOM_TOKEN_WRITE_DOCS=1 cargo test --test layers` updates the diagram in docs/development.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

use syn::visit::{self, Visit};

/// A crate, and its rooms from top to bottom. A room may depend on those in the rows below its own.
struct Layers {
    /// The folder of the crate's source.
    source: &'static str,
    rows: &'static [&'static [(&'static str, &'static str)]],
    /// Files that belong to no room: they connect the rooms, or test them.
    aside: &'static [&'static str],
}

const CORE: Layers = Layers {
    source: "src",
    rows: &[
        &[("ffi", "the C ABI: one file for each C type, no logic")],
        &[(
            "gateway",
            "the decision about a request and the answer to it: sources, policy, sender, challenge, metadata, purge, \
             metrics, status",
        )],
        &[(
            "resolver",
            "the path from a token to its verdict: cache, single flight, transport, breaker, runtime",
        )],
        &[
            (
                "introspection",
                "requests to the server and its responses, by dialect",
            ),
            ("cache", "memory, zone, stores of hosts, sealing"),
        ],
        &[("config", "settings, checked and read into a provider")],
        &[
            ("oauth", "endpoints, server metadata, client authentication"),
            ("verdict", "the result of a resolution"),
        ],
        &[("jwt", "JWTs: reading, verification, signing")],
        &[
            ("token", "access tokens and their keys"),
            ("secret", "secrets"),
            ("values", "the syntax of settings' values"),
            ("error", "errors of a resolution"),
            ("clock", "clocks"),
            ("process", "other processes"),
        ],
    ],
    aside: &["lib", "fuzzing"],
};

const MODULE: Layers = Layers {
    source: "nginx-module/src",
    rows: &[
        &[
            ("content", "locations whose content the module generates"),
            ("variables", "`$phantom_token_…`"),
        ],
        &[(
            "phases",
            "the phases of a request, its decision and its consequences",
        )],
        &[(
            "process",
            "a worker process, and the requests that wait in it",
        )],
        &[("conf", "the directives")],
        &[("nginx", "nginx's structures")],
    ],
    aside: &["lib"],
};

#[test]
fn no_room_uses_one_that_is_not_below_it() {
    for layers in [CORE, MODULE] {
        let wrong: Vec<_> = layers
            .arrows()
            .into_iter()
            .filter(|(from, to, _)| layers.row(to) <= layers.row(from))
            .map(|(from, to, file)| format!("{from} uses {to} in {}", file.display()))
            .collect();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

#[test]
fn each_room_is_on_the_list_and_each_on_the_list_is_there() {
    for layers in [CORE, MODULE] {
        let listed: BTreeSet<_> = layers.names().chain(layers.aside.iter().copied()).collect();
        let rooms = layers.files();
        let found: BTreeSet<_> = rooms.iter().map(|(room, _)| room.as_str()).collect();
        assert_eq!(found, listed, "{}", layers.source);
    }
}

/// The test itself can fail: it detects a dependency in the wrong direction.
#[test]
fn an_arrow_that_runs_back_is_seen() {
    let file = "use crate::{clock, gateway::policy::{self, X}};\n\
                use crate::jwt;\n\
                fn f() { let _ = crate::resolver::g(); println!(\"{}\", crate::ffi::h()); }\n\
                #[cfg(test)] mod tests { use crate::fuzzing::x; }\n\
                #[test] fn t() { crate::introspection::x(); }";
    let used = used(&syn::parse_file(file).unwrap());
    let expected = ["clock", "ffi", "gateway", "jwt", "resolver"];
    assert_eq!(used, expected.map(str::to_owned).into());
    assert!(CORE.row("gateway") < CORE.row("clock"));
}

#[test]
fn the_docs_show_the_rooms() {
    let path = root().join("docs/development.md");
    let docs = fs::read_to_string(&path).unwrap();
    let mut written = docs.clone();
    for (layers, name) in [(CORE, "core"), (MODULE, "module")] {
        let (begin, end) = (format!("<!-- rooms: {name} -->\n"), "<!-- end -->");
        let start = written.find(&begin).expect("the marker is there") + begin.len();
        let length = written[start..].find(end).expect("it ends");
        written.replace_range(start..start + length, &layers.picture());
    }
    if env::var_os("PHANTOM_TOKEN_WRITE_DOCS").is_some() {
        fs::write(&path, written).unwrap();
    } else {
        assert!(
            docs == written,
            "docs/development.md is out of date: PHANTOM_TOKEN_WRITE_DOCS=1 cargo test --test layers"
        );
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

impl Layers {
    fn names(&self) -> impl Iterator<Item = &'static str> {
        self.rows
            .iter()
            .flat_map(|row| row.iter())
            .map(|(name, _)| *name)
    }

    /// The row of a room, counted from the top. A name that is not a room is in no row, and counts as below all rows.
    fn row(&self, room: &str) -> usize {
        let is_in = |row: &&[(&str, &str)]| row.iter().any(|(name, _)| *name == room);
        self.rows.iter().position(is_in).unwrap_or(usize::MAX)
    }

    /// Every source file, with its room.
    fn files(&self) -> Vec<(String, PathBuf)> {
        let source = root().join(self.source);
        let mut folders = vec![source.clone()];
        let mut files = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let first = path
                        .strip_prefix(&source)
                        .unwrap()
                        .components()
                        .next()
                        .unwrap();
                    let room = Path::new(&first).file_stem().unwrap().to_str().unwrap();
                    files.push((room.to_owned(), path));
                }
            }
        }
        files
    }

    /// The dependencies between rooms, each with the file that has it.
    fn arrows(&self) -> Vec<(String, String, PathBuf)> {
        let exported = exported(&root().join(self.source).join("lib.rs"));
        let mut arrows = Vec::new();
        for (room, path) in self.files() {
            let is_test = path.components().any(|part| {
                matches!(
                    part.as_os_str().to_str(),
                    Some("tests" | "tests.rs" | "testing" | "testing.rs")
                )
            });
            if is_test || self.aside.contains(&room.as_str()) {
                continue;
            }
            let file = syn::parse_file(&fs::read_to_string(&path).unwrap()).unwrap();
            for name in used(&file) {
                let to = exported.get(&name).unwrap_or(&name).clone();
                if to != room && self.names().any(|known| known == to) {
                    arrows.push((room.clone(), to, path.clone()));
                }
            }
        }
        assert!(arrows.len() > 10, "nothing was read");
        arrows
    }

    fn picture(&self) -> String {
        let mut uses = BTreeMap::<String, BTreeSet<String>>::new();
        for (from, to, _) in self.arrows() {
            uses.entry(from).or_default().insert(to);
        }
        let mut text = String::from("| room | what it has | uses |\n| --- | --- | --- |\n");
        for (name, what) in self.rows.iter().flat_map(|row| row.iter()) {
            let below: Vec<_> = self
                .names()
                .filter(|other| uses.get(*name).is_some_and(|uses| uses.contains(*other)))
                .map(|other| format!("`{other}`"))
                .collect();
            writeln!(text, "| `{name}` | {what} | {} |", below.join(", ")).unwrap();
        }
        text
    }
}

/// The items that `lib.rs` re-exports under another path, and the room of each.
fn exported(path: &Path) -> BTreeMap<String, String> {
    fn names(tree: &syn::UseTree, room: &str, found: &mut BTreeMap<String, String>) {
        match tree {
            syn::UseTree::Path(path) => names(&path.tree, room, found),
            syn::UseTree::Group(group) => {
                group.items.iter().for_each(|tree| names(tree, room, found));
            }
            syn::UseTree::Name(name) => {
                found.insert(name.ident.to_string(), room.to_owned());
            }
            syn::UseTree::Rename(name) => {
                found.insert(name.rename.to_string(), room.to_owned());
            }
            syn::UseTree::Glob(_) => {}
        }
    }
    let file = syn::parse_file(&fs::read_to_string(path).unwrap()).unwrap();
    let mut found = BTreeMap::new();
    for item in &file.items {
        if let syn::Item::Use(item) = item
            && matches!(item.vis, syn::Visibility::Public(_))
            && let syn::UseTree::Path(path) = &item.tree
        {
            names(&path.tree, &path.ident.to_string(), &mut found);
        }
    }
    found
}

/// The names that a file uses directly below `crate`, except in tests.
fn used(file: &syn::File) -> BTreeSet<String> {
    let mut found = Found(BTreeSet::new());
    found.visit_file(file);
    found.0
}

struct Found(BTreeSet<String>);

impl Found {
    fn first(&mut self, tree: &syn::UseTree) {
        match tree {
            syn::UseTree::Path(path) => {
                self.0.insert(path.ident.to_string());
            }
            syn::UseTree::Name(name) => {
                self.0.insert(name.ident.to_string());
            }
            syn::UseTree::Rename(name) => {
                self.0.insert(name.ident.to_string());
            }
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.first(tree)),
            syn::UseTree::Glob(_) => {}
        }
    }
}

fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        if attribute.path().is_ident("test") {
            return true;
        }
        // `cfg(test)`, and `cfg(any(test, …))`.
        attribute.path().is_ident("cfg")
            && attribute.meta.require_list().is_ok_and(|list| {
                let tokens = list.tokens.to_string();
                tokens
                    .split(|c: char| !c.is_alphanumeric())
                    .any(|word| word == "test")
                    && !tokens.contains("not")
            })
    })
}

impl<'ast> Visit<'ast> for Found {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        let attributes = match item {
            syn::Item::Mod(item) => &item.attrs,
            syn::Item::Fn(item) => &item.attrs,
            syn::Item::Use(item) => &item.attrs,
            syn::Item::Impl(item) => &item.attrs,
            _ => return visit::visit_item(self, item),
        };
        if !is_for_tests(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if let syn::UseTree::Path(path) = &item.tree
            && path.ident == "crate"
        {
            self.first(&path.tree);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let mut segments = path.segments.iter();
        if segments.next().is_some_and(|first| first.ident == "crate")
            && let Some(second) = segments.next()
        {
            self.0.insert(second.ident.to_string());
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        // The arguments of a macro are tokens without a grammar.
        let tokens = call.tokens.to_string();
        let mut words = tokens.split_whitespace().peekable();
        while let Some(word) = words.next() {
            if word.ends_with("crate") && words.next_if_eq(&"::").is_some() {
                self.0.extend(words.peek().map(|word| (*word).to_owned()));
            }
        }
        visit::visit_macro(self, call);
    }
}
