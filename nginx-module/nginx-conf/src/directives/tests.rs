use std::collections::BTreeMap;

use super::*;

/// Files in memory. A pattern with a star matches all paths that begin and end as it does.
pub(crate) struct Memory(pub BTreeMap<&'static str, String>);

impl Files for Memory {
    fn read(&mut self, path: &str) -> Option<Vec<u8>> {
        Some(self.0.get(path)?.clone().into_bytes())
    }

    fn included(&mut self, pattern: &str) -> Option<Vec<String>> {
        let Some((start, end)) = pattern.split_once('*') else {
            return Some(vec![pattern.to_owned()]);
        };
        let matches = |path: &&&str| path.starts_with(start) && path.ends_with(end);
        Some(
            self.0
                .keys()
                .filter(matches)
                .map(|path| (*path).to_owned())
                .collect(),
        )
    }
}

fn memory(files: &[(&'static str, &str)]) -> Memory {
    Memory(
        files
            .iter()
            .map(|(path, text)| (*path, (*text).to_owned()))
            .collect(),
    )
}

#[test]
fn included_files_are_where_the_include_is() {
    let mut files = memory(&[
        ("main", "http {\n include sites/*;\n a; }\n"),
        ("sites/1", "server {\n location / { return 200; }\n}\n"),
        ("sites/2", "server { }"),
    ]);
    let directives = read(&mut files, "main").unwrap();
    let http = &directives[0];
    let names: Vec<_> = http
        .block
        .iter()
        .map(|it| (it.name(), it.place()))
        .collect();
    let place = |text: &str| text.to_owned();
    assert_eq!(
        names,
        [
            ("server", place("sites/1:1")),
            ("server", place("sites/2:1")),
            ("a", place("main:3"))
        ]
    );
    let location = &http.block[0].block[0];
    assert_eq!((location.name(), location.value()), ("location", "/"));
    assert_eq!(location.block[0].place(), "sites/1:2");
}

#[test]
fn blocks_that_hold_no_locations_are_passed() {
    let text = "events { use epoll; } http { map $a $b { default { } } \
                content_by_lua_block { if x then {} end } server { if ($a) { b; } } }";
    let directives = read(&mut memory(&[("main", text)]), "main").unwrap();
    assert!(directives[0].block.is_empty());
    let http: Vec<_> = directives[1].block.iter().map(Directive::name).collect();
    assert_eq!(http, ["map", "content_by_lua_block", "server"]);
}

#[test]
fn a_configuration_is_read_whole_or_not_at_all() {
    for files in [
        &[("main", "include other;")][..],
        &[("main", "include other;"), ("other", "http {")],
        &[("main", "include main;")],
        &[("main", "}")],
    ] {
        assert!(read(&mut memory(files), "main").is_none(), "{files:?}");
    }
    let deep = "a {".repeat(200) + &"}".repeat(200);
    assert!(read(&mut memory(&[("main", &deep)]), "main").is_none());
}
