//! Files generated from the table of settings: the tables in the docs, and the types of the Python package.
//!
//! `PHANTOM_TOKEN_WRITE_DOCS=1 cargo test --test settings` updates them.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::{env, fs};

use phantom_token::Config;
use phantom_token::config::{Setting, SettingType};

const BEGIN: &str = "<!-- settings -->\n";
const END: &str = "<!-- end -->";

/// A key that the nginx module adds to those of the library: zones exist in nginx only.
const CACHE_ZONE: &str = "| `cache_zone` | The [zone](#the-zone) that workers share, or `off`: each worker has its own \
                          cache. Required if there are several zones | the only zone, if there is one |\n";

#[test]
fn the_docs_have_every_setting_as_the_table_has_it() {
    check("docs/nginx.md", |docs| {
        between(
            docs,
            &table(&[("cache_inactive_ttl", CACHE_ZONE)], "nginx.md"),
        )
    });
    check("docs/c-api.md", |docs| between(docs, &table(&[], "")));
}

#[test]
fn the_python_package_has_every_setting_with_its_type() {
    check("bindings/python/phantom_token/_keys.py", |_| python());
}

/// Compares a file with its expected content, or writes it.
fn check(path: &str, make: impl FnOnce(&str) -> String) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path);
    let found = fs::read_to_string(&path).unwrap_or_default();
    let made = make(&found);
    if env::var_os("PHANTOM_TOKEN_WRITE_DOCS").is_some() {
        fs::write(&path, made).unwrap();
    } else {
        assert!(
            found == made,
            "{} is out of date: PHANTOM_TOKEN_WRITE_DOCS=1 cargo test --test settings",
            path.display()
        );
    }
}

fn between(docs: &str, text: &str) -> String {
    let start = docs.find(BEGIN).expect("the marker is there") + BEGIN.len();
    let end = start + docs[start..].find(END).expect("it ends");
    format!("{}{text}{}", &docs[..start], &docs[end..])
}

/// The settings by groups. Links to the page itself are shortened to the fragment.
fn table(more: &[(&str, &str)], page: &str) -> String {
    let mut text = String::new();
    let mut group = "";
    for setting in Config::settings() {
        if group != setting.group() {
            group = setting.group();
            let gap = if text.is_empty() { "" } else { "\n" };
            write!(
                text,
                "{gap}**{group}**\n\n| key | meaning | default |\n| --- | --- | --- |\n"
            )
            .unwrap();
        }
        let mut about = setting.about().to_owned();
        if !page.is_empty() {
            about = about.replace(&format!("]({page}#"), "](#");
        }
        let default = match setting.default() {
            "" => "—",
            default => default,
        };
        writeln!(text, "| `{}` | {about} | {default} |", setting.name()).unwrap();
        for (after, row) in more {
            if *after == setting.name() {
                text.push_str(row);
            }
        }
    }
    text
}

fn python() -> String {
    let mut text = String::from(
        "# SPDX-License-Identifier: Apache-2.0\n\
         \"\"\"The settings of a provider and their types. Written by `cargo test --test settings`.\"\"\"\n\n\
         from __future__ import annotations\n\n\
         import os\n\
         from datetime import timedelta\n\
         from typing import Literal, Optional, Sequence, TypedDict, Union\n\n\
         Path = Union[str, \"os.PathLike[str]\"]\n\
         Paths = Union[str, \"os.PathLike[str]\", Sequence[str]]\n\
         Words = Union[str, Sequence[str]]\n\
         Number = Union[int, str]\n\
         Time = Union[timedelta, float, int, str]\n\
         Switch = Union[bool, str]\n\n\n\
         class ProviderSettings(TypedDict, total=False):\n    \
         \"\"\"The settings of a provider: docs/c-api.md describes them. `None` leaves the default.\"\"\"\n",
    );
    let mut group = "";
    for setting in Config::settings() {
        if group != setting.group() {
            group = setting.group();
            write!(text, "\n    # {group}\n").unwrap();
        }
        writeln!(
            text,
            "    {}: Optional[{}]",
            setting.name(),
            python_type(setting)
        )
        .unwrap();
    }
    text
}

fn python_type(setting: &Setting) -> String {
    match setting.setting_type() {
        SettingType::Path => "Path",
        SettingType::Paths => "Paths",
        SettingType::Words | SettingType::Urls => "Words",
        SettingType::Switch => "Switch",
        SettingType::Time => "Time",
        SettingType::Size | SettingType::Number | SettingType::Percent => "Number",
        SettingType::Choice => {
            let choices: Vec<_> = setting
                .choices()
                .iter()
                .map(|choice| format!("\"{choice}\""))
                .collect();
            return format!("Literal[{}]", choices.join(", "));
        }
        _ => "str",
    }
    .to_owned()
}
