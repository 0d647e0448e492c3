//! Makes `include/phantom_token.h` of `src/ffi`, and names the shared library.
//!
//! The header is checked in, so whoever builds a package never depends on what is done here: nothing in this file can
//! fail a build. That the header is the one that the sources say is checked where the project itself is tested.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// The files of the C ABI, in the order of the header.
const SECTIONS: [&str; 12] = [
    "version", "status", "config", "client", "result", "policy", "decision", "events", "stats",
    "log", "zone", "store",
];

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=cbindgen.toml");
    println!("cargo::rerun-if-changed=src/ffi");
    println!("cargo::rerun-if-changed=include");

    if env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("linux") {
        // What programs are bound to: it changes when they have to be built anew.
        let major = env::var("CARGO_PKG_VERSION_MAJOR").unwrap_or_default();
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libphantom_token.so.{major}");
        // Never unloaded: `dlclose` would take the code away from under threads that are still in it, destructors of
        // thread-local variables, and the handler that `pthread_atfork` knows.
        println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }

    match header(&root) {
        Ok(text) => write_if_changed(&root.join("include/phantom_token.h"), &text),
        Err(error) => println!("cargo::warning=include/phantom_token.h is left as it is: {error}"),
    }
}

fn write_if_changed(path: &Path, text: &str) {
    if fs::read_to_string(path).is_ok_and(|present| present == text) {
        return;
    }
    // A source tree that cannot be written to is somebody's package build: the header in it is the one to use.
    let _ = fs::write(path, text);
}

fn header(root: &Path) -> Result<String, String> {
    let mut types = Vec::new();
    let mut sections = String::new();
    for name in SECTIONS {
        let file = root.join("src/ffi").join(name).with_extension("rs");
        let mut blocks = Vec::new();
        for block in bindings(root, &file)?.split("\n\n") {
            let block = block.trim_matches('\n');
            // Those that C sees into stand where they are explained.
            if block.contains("typedef struct ") && !block.contains('{') {
                types.push(block.to_owned());
            } else if !block.is_empty() {
                blocks.push(without_rust_sections(block));
            }
        }
        let prose = module_docs(&file)?;
        sections += &format!("\n{RULE}\n{prose}\n{RULE}\n\n{}\n", blocks.join("\n\n"));
    }
    let unique: BTreeSet<_> = types.iter().collect();
    if unique.len() != types.len() {
        return Err("a type is defined in two files of src/ffi".to_owned());
    }
    let prologue = module_docs(&root.join("src/ffi/mod.rs"))?;
    Ok(format!(
        "// SPDX-License-Identifier: Apache-2.0\n//\n// Generated from src/ffi: change it there.\n\n{prologue}\n\n\
         {OPENING}\n{RULE}\n// Types.\n{RULE}\n\n{}\n{sections}\n{CLOSING}",
        types.join("\n\n")
    ))
}

const RULE: &str = "// ---------------------------------------------------------------------------------------------------------";

const OPENING: &str = "\
#ifndef PHANTOM_TOKEN_H
#define PHANTOM_TOKEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// On functions whose answer a program cannot do without.
#ifndef PHANTOM_MUST_USE
#if defined(__GNUC__) || defined(__clang__)
#define PHANTOM_MUST_USE __attribute__((warn_unused_result))
#else
#define PHANTOM_MUST_USE
#endif
#endif

#ifdef __cplusplus
extern \"C\" {
#endif
";

const CLOSING: &str = "\
#ifdef __cplusplus
} // extern \"C\"
#endif

#endif // PHANTOM_TOKEN_H
";

/// What cbindgen makes of one file.
fn bindings(root: &Path, file: &Path) -> Result<String, String> {
    let config = cbindgen::Config::from_file(root.join("cbindgen.toml"))?;
    let bindings = cbindgen::Builder::new()
        .with_config(config)
        .with_src(file)
        .generate()
        .map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    bindings.write(&mut bytes);
    let text = String::from_utf8(bytes).map_err(|error| error.to_string())?;
    // There is one around the whole.
    Ok(text
        .replace(
            "#ifdef __cplusplus\nextern \"C\" {\n#endif  // __cplusplus\n",
            "",
        )
        .replace(
            "#ifdef __cplusplus\nextern \"C\" {\n#endif // __cplusplus\n",
            "",
        )
        .replace(
            "#ifdef __cplusplus\n}  // extern \"C\"\n#endif  // __cplusplus\n",
            "",
        )
        .replace(
            "#ifdef __cplusplus\n} // extern \"C\"\n#endif // __cplusplus\n",
            "",
        ))
}

/// The documentation of a module, as a comment in C.
fn module_docs(file: &Path) -> Result<String, String> {
    let source =
        fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let mut in_code = false;
    let mut comment = Vec::new();
    for line in source.lines().map_while(|line| line.strip_prefix("//!")) {
        if line.trim().starts_with("```") {
            // To a reader of C, code is what is indented.
            in_code = !in_code;
        } else if in_code && !line.is_empty() {
            comment.push(format!("//    {line}"));
        } else {
            comment.push(format!("//{line}"));
        }
    }
    Ok(comment.join("\n"))
}

/// Leaves `# Safety` out: what it says of each pointer is what the header says of all of them at its beginning.
fn without_rust_sections(block: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    let mut skipping = false;
    for line in block.lines() {
        if !line.starts_with("//") {
            skipping = false;
        } else if line.trim_end() == "// # Safety" {
            skipping = true;
            // The empty line of comment before it goes with it.
            if kept.last().is_some_and(|last| last.trim_end() == "//") {
                kept.pop();
            }
        }
        if !skipping {
            kept.push(line);
        }
    }
    kept.join("\n")
}
