//! Tells the compiler which nginx this is for, and the linker what a loadable module needs.

use std::env;

/// The first version in which a header of several values is a chain (`ngx_table_elt_t.next`).
const CHAINED_HEADERS: u64 = 1_023_000;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=DEP_NGINX_VERSION_NUMBER");
    println!("cargo::rerun-if-env-changed=DEP_NGINX_FEATURES");

    println!("cargo::rustc-check-cfg=cfg(chained_headers)");
    println!("cargo::rustc-check-cfg=cfg(pcre)");
    println!("cargo::rustc-check-cfg=cfg(http_cache)");
    let version: u64 = env::var("DEP_NGINX_VERSION_NUMBER")
        .ok()
        .and_then(|version| version.parse().ok())
        .unwrap_or_default();
    if version >= CHAINED_HEADERS {
        println!("cargo::rustc-cfg=chained_headers");
    }
    let features = env::var("DEP_NGINX_FEATURES").unwrap_or_default();
    for feature in ["pcre", "http_cache"] {
        if features.split(',').any(|known| known.trim() == feature) {
            println!("cargo::rustc-cfg={feature}");
        }
    }

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
