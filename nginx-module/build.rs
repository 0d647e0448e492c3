//! Build script: fits the module to the nginx that it is built for.
//!
//! - Tells the compiler which nginx it is, and the linker what a loadable module needs.
//! - Compiles the accessors of nginx's bit fields (`src/nginx/bits.c`) against its headers.
//! - Asks the C compiler where the fields of nginx's structures are, and writes what `src/nginx/layout.rs` compares.
//! - Lists the accessors that bindgen generates for bit fields, so that clippy refuses them (`lint.sh`).

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The first version in which a header of several values is a chain (`ngx_table_elt_t.next`).
const CHAINED_HEADERS: u64 = 1_023_000;

/// The headers of nginx that the module includes.
const HEADERS: &str = "#include <ngx_config.h>\n#include <ngx_core.h>\n#include <ngx_event.h>\n#include <ngx_http.h>\n";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=src");
    for variable in [
        "VERSION",
        "VERSION_NUMBER",
        "FEATURES",
        "INCLUDE",
        "CFLAGS",
        "BUILD_DIR",
    ] {
        println!("cargo::rerun-if-env-changed=DEP_NGINX_{variable}");
    }
    describe_nginx();
    describe_linking();

    let nginx = Nginx::from_environment();
    nginx
        .compiler()
        .file("src/nginx/bits.c")
        .compile("phantom_token_bits");
    // nginx-sys looks at the Makefile alone: headers that have changed since are told by the proof.
    for folder in &nginx.includes {
        println!("cargo::rerun-if-changed={}", folder.display());
    }
    let bindings = nginx.bindings();
    write_out("clippy.toml", &refused_by_clippy(&bindings));
    write_out("layout.rs", &nginx.proof(&structures(&bindings)));
}

/// Sets what the source asks about nginx (`#[cfg(…)]`).
fn describe_nginx() {
    println!("cargo::rustc-check-cfg=cfg(chained_headers)");
    println!("cargo::rustc-check-cfg=cfg(pcre)");
    println!("cargo::rustc-check-cfg=cfg(http_cache)");
    let version: u64 = variable("DEP_NGINX_VERSION_NUMBER")
        .parse()
        .unwrap_or_default();
    if version >= CHAINED_HEADERS {
        println!("cargo::rustc-cfg=chained_headers");
    }
    let features = variable("DEP_NGINX_FEATURES");
    for feature in ["pcre", "http_cache"] {
        if features.split(',').any(|known| known.trim() == feature) {
            println!("cargo::rustc-cfg={feature}");
        }
    }
}

/// Sets what the linker must know.
fn describe_linking() {
    match env::var("CARGO_CFG_TARGET_OS").as_deref() {
        // nginx unloads the module before it exits. A thread that looks up a name in the C library cannot be
        // stopped, so that it may outlive the client: its code must stay where it is.
        Ok("linux" | "android" | "freebsd") => {
            println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
        }
        // nginx's own functions are resolved when it loads the module.
        Ok("macos") => {
            println!("cargo::rustc-cdylib-link-arg=-Wl,-undefined,dynamic_lookup");
        }
        _ => {}
    }
}

/// Writes a file to where the build keeps what it makes.
fn write_out(name: &str, text: &str) {
    let place = Path::new(&variable("OUT_DIR")).join(name);
    fs::write(&place, text).unwrap_or_else(|error| panic!("{}: {error}", place.display()));
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_default()
}

/// The nginx that the module is built for, as nginx-sys has read it from the configured source tree.
struct Nginx {
    version: String,
    includes: Vec<PathBuf>,
    /// `-D…`
    definitions: Vec<String>,
    /// The compiler of nginx's own Makefile, and its arguments that change how structures are laid out.
    compiler: Option<(String, Vec<String>)>,
}

/// A structure of the bindings.
struct Structure {
    /// The name in Rust; in C, the same after `struct` or `union` if it is a tag.
    name: String,
    in_c: String,
    /// The names of fields in Rust, without bit fields. The flag says whether the size can be asked for.
    fields: Vec<(String, bool)>,
}

impl Nginx {
    fn from_environment() -> Self {
        let includes = variable("DEP_NGINX_INCLUDE");
        Nginx {
            version: variable("DEP_NGINX_VERSION").replace("nginx/", ""),
            includes: env::split_paths(&includes).collect(),
            definitions: variable("DEP_NGINX_CFLAGS")
                .split_whitespace()
                .map(str::to_owned)
                .collect(),
            compiler: compiler_of(Path::new(&variable("DEP_NGINX_BUILD_DIR"))),
        }
    }

    /// nginx's own compiler, with its headers.
    fn compiler(&self) -> cc::Build {
        let mut build = cc::Build::new();
        build.includes(&self.includes);
        for definition in &self.definitions {
            build.flag(definition);
        }
        if let Some((compiler, flags)) = &self.compiler {
            // CC and its kin say more: they are about this build.
            if variable("CC").is_empty() {
                build.compiler(compiler);
            }
            build.flags(flags);
        }
        build
    }

    /// The bindings, as bindgen generates them for nginx-sys: only names are read in these.
    fn bindings(&self) -> syn::File {
        let includes = self
            .includes
            .iter()
            .map(|path| format!("-I{}", path.display()));
        let text = bindgen::Builder::default()
            .header_contents("layout.h", HEADERS)
            .clang_args(includes)
            .clang_args(&self.definitions)
            .allowlist_type("ngx_.*")
            .layout_tests(false)
            .generate()
            .unwrap_or_else(|error| panic!("nginx's headers can't be read: {error}"))
            .to_string();
        syn::parse_file(&text).unwrap_or_else(|error| panic!("bindings of nginx: {error}"))
    }

    /// The answers of the C compiler, by question: `structure` for its size, `structure.field` and `structure.field size`
    /// for a field.
    fn measure(&self, structures: &[Structure]) -> BTreeMap<String, usize> {
        let out = PathBuf::from(variable("OUT_DIR"));
        let (source, assembly) = (out.join("layout.c"), out.join("layout.s"));
        // Nothing is run, so that this works for another machine's compiler too: the numbers are read in its assembly.
        let mut text = format!("{HEADERS}#include <stddef.h>\n");
        text.push_str(
            "#define TELL(question, number) \\\n    \
             __asm__ volatile(\"\\n.ascii \\\"->\" question \"=%0<-\\\"\" : : \"i\"((unsigned long) (number)))\n\
             void phantom_token_layout(void);\n\
             void phantom_token_layout(void) {\n",
        );
        for Structure { name, in_c, fields } in structures {
            let _ = writeln!(text, "    TELL(\"{name}\", sizeof({in_c}));");
            for (field, is_whole) in fields {
                let member = without_mangling(field);
                let _ = writeln!(
                    text,
                    "    TELL(\"{name}.{field}\", offsetof({in_c}, {member}));"
                );
                if *is_whole {
                    let _ = writeln!(
                        text,
                        "    TELL(\"{name}.{field} size\", sizeof((({in_c} *) 0)->{member}));"
                    );
                }
            }
        }
        text.push_str("}\n");
        fs::write(&source, text).unwrap_or_else(|error| panic!("{}: {error}", source.display()));
        let mut command: Command = self.compiler().get_compiler().to_command();
        command
            .args(["-fno-lto", "-S", "-o"])
            .args([&assembly, &source]);
        match command.status() {
            Ok(status) if status.success() => {}
            Ok(status) => {
                panic!("the C compiler does not take nginx's headers ({status}): {command:?}")
            }
            Err(error) => panic!("the C compiler can't be run: {error}: {command:?}"),
        }
        let assembly = fs::read_to_string(&assembly)
            .unwrap_or_else(|error| panic!("{}: {error}", assembly.display()));
        let mut answers = BTreeMap::new();
        for line in assembly.lines() {
            let Some((question, number)) = line
                .split_once("->")
                .and_then(|(_, rest)| rest.split_once("<-"))
                .and_then(|(told, _)| told.split_once('='))
            else {
                continue;
            };
            // Assemblers write a number as 8, $8 or #8.
            let number = number.trim_start_matches(['$', '#']);
            let number = number
                .parse()
                .unwrap_or_else(|_| panic!("the C compiler says of {question}: {number}"));
            answers.insert(question.to_owned(), number);
        }
        answers
    }

    /// Calls of the functions in `src/nginx/layout.rs`, one for each answer of the C compiler.
    fn proof(&self, structures: &[Structure]) -> String {
        let answers = self.measure(structures);
        let version = &self.version;
        let answer = |question: &str| {
            *answers
                .get(question)
                .unwrap_or_else(|| panic!("the C compiler says nothing about {question}"))
        };
        let mut text =
            format!("/// The version of the headers.\nconst NGINX: &str = {version:?};\n");
        for Structure { name, fields, .. } in structures {
            let c = answer(name);
            let _ = write!(
                text,
                "const _: () = {{\n    type S = nginx_sys::{name};\n    \
             let place = MaybeUninit::<S>::uninit();\n    let place = place.as_ptr();\n"
            );
            for (field, is_whole) in fields {
                let offset = answer(&format!("{name}.{field}"));
                let rust_size = format!(
                    "// SAFETY: the place is inside of `S`, and nothing is read.\n        \
                 unsafe {{ pointee(&raw const (*place).{field}) }}"
                );
                let (c_size, rust_size) = if *is_whole {
                    (answer(&format!("{name}.{field} size")), rust_size.as_str())
                } else {
                    (0, "0")
                };
                let _ = write!(
                    text,
                    "    field({name:?}, {field:?}, ({offset}, {c_size}), (std::mem::offset_of!(S, {field}),\n        \
                 {rust_size}));\n"
                );
            }
            // Last, so that it is a field that is named if one differs.
            let _ = write!(
                text,
                "    let _ = place;\n    size({name:?}, {c}, size_of::<S>());\n}};\n"
            );
        }
        text
    }
}

/// The structures of nginx whose fields the module may touch: those fields whose name occurs in its source.
fn structures(bindings: &syn::File) -> Vec<Structure> {
    let words = words_of_source();
    let mut structures = Vec::new();
    for item in &bindings.items {
        let (name, fields): (_, Vec<&syn::Field>) = match item {
            syn::Item::Struct(item) => (item.ident.to_string(), item.fields.iter().collect()),
            syn::Item::Union(item) => (item.ident.to_string(), item.fields.named.iter().collect()),
            _ => continue,
        };
        // A structure without a name in C can't be asked about; it is a part of one that has a name.
        if !name.starts_with("ngx_") || name.contains("__bindgen_") {
            continue;
        }
        let fields: Vec<_> = fields
            .into_iter()
            .filter_map(|field| {
                let name = field.ident.as_ref()?.to_string();
                let known = words.contains(&name) && !name.starts_with('_');
                known.then(|| (name, !is_incomplete(&field.ty)))
            })
            .collect();
        if fields.is_empty() && !words.contains(&name) {
            continue;
        }
        let in_c = match name.rsplit_once('_') {
            Some((_, "s")) => format!("struct {name}"),
            Some((_, "u")) => format!("union {name}"),
            _ => name.clone(),
        };
        structures.push(Structure { name, in_c, fields });
    }
    structures
}

/// Whether a field is an array whose length C does not say.
fn is_incomplete(of: &syn::Type) -> bool {
    matches!(of, syn::Type::Path(path) if path.path.segments.last().is_some_and(|last| last.ident == "__IncompleteArrayField"))
}

/// A configuration for clippy: nothing that reads or writes a bit field by bindgen's accessors may be called.
fn refused_by_clippy(bindings: &syn::File) -> String {
    let reason = "where a bit field is, only the C compiler knows: use src/nginx/bits.rs";
    let mut methods: Vec<String> = [
        "ngx_add_timer",
        "ngx_del_timer",
        "ngx_post_event",
        "ngx_delete_posted_event",
    ]
    .map(|name| format!("nginx_sys::{name}"))
    .to_vec();
    for item in &bindings.items {
        let syn::Item::Impl(item) = item else {
            continue;
        };
        let syn::Type::Path(of) = &*item.self_ty else {
            continue;
        };
        let Some(of) = of.path.get_ident().filter(|_| item.trait_.is_none()) else {
            continue;
        };
        if !of.to_string().starts_with("ngx_") {
            continue;
        }
        for item in &item.items {
            if let syn::ImplItem::Fn(item) = item {
                methods.push(format!("nginx_sys::{of}::{}", item.sig.ident));
            }
        }
    }
    // Their code uses such accessors.
    let types = [
        "http::Request",
        "core::Pool",
        "core::MemoryBuffer",
        "core::TemporaryBuffer",
    ];
    let list = |paths: Vec<String>| {
        let entry = |path| {
            format!("    {{ path = {path:?}, reason = {reason:?}, allow-invalid = true }},\n")
        };
        paths.into_iter().map(entry).collect::<String>()
    };
    format!(
        "disallowed-methods = [\n{}]\ndisallowed-types = [\n{}]\n",
        list(methods),
        list(types.map(|name| format!("ngx::{name}")).to_vec())
    )
}

/// The name of a field in C: bindgen appends an underscore to what is a keyword in Rust.
fn without_mangling(field: &str) -> &str {
    match field.strip_suffix('_') {
        Some(keyword) if syn::parse_str::<syn::Ident>(keyword).is_err() => keyword,
        _ => field,
    }
}

/// All identifiers that occur in the module's source.
fn words_of_source() -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    let mut folders = vec![PathBuf::from("src")];
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path)
                    .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                let word = |character: char| character == '_' || character.is_alphanumeric();
                words.extend(text.split(|character| !word(character)).map(str::to_owned));
            }
        }
    }
    words
}

/// The compiler in the Makefile of a build directory, with those of its arguments that change layouts.
fn compiler_of(build_directory: &Path) -> Option<(String, Vec<String>)> {
    let makefile = fs::read_to_string(build_directory.join("Makefile")).ok()?;
    let value = |name: &str| {
        makefile.lines().find_map(|line| {
            let (key, value) = line.split_once('=')?;
            (key.trim() == name).then(|| value.trim().to_owned())
        })
    };
    let compiler = value("CC")?;
    let mut words = compiler
        .split_whitespace()
        .filter(|word| !word.ends_with("ccache"));
    let program = words.next()?.to_owned();
    let flags = value("CFLAGS").unwrap_or_default();
    let changes_layout = |flag: &&str| {
        ["-m", "-fpack-struct", "-fshort-", "--target", "--sysroot"]
            .iter()
            .any(|beginning| flag.starts_with(beginning))
    };
    let flags = words
        .chain(flags.split_whitespace().filter(changes_layout))
        .map(str::to_owned);
    Some((program, flags.collect()))
}
