//! The text of the configuration, read again: the files that nginx has read.
//!
//! nginx gives a module neither the text nor the settings of other modules. Two things need it: the digest that is part of the
//! name of verdicts where a location introspects (`introspection.rs`), because any directive may change whom such a location
//! asks; and the advice about other modules' directives.

use std::path::Path;

use ngx::ffi::{
    NGX_OK, ngx_close_glob, ngx_conf_full_name, ngx_conf_t, ngx_cycle_t, ngx_glob_t, ngx_int_t,
    ngx_open_glob, ngx_read_glob, ngx_str_t,
};
use phantom_token::token::ContextBuilder;
use phantom_token_nginx_conf::{Directive, Files};

use crate::nginx::strings;

/// The whole text.
pub struct Text {
    /// The directives outside of all blocks.
    pub directives: Vec<Directive>,
    /// A digest of all files, to which more can be added.
    pub digest: ContextBuilder,
}

impl Text {
    /// Reads it. `None` when a file can't be read again, or is not understood: then nothing is known about it.
    ///
    /// # Safety
    /// `cf` must be valid.
    pub unsafe fn read(cf: *mut ngx_conf_t) -> Option<Self> {
        // SAFETY: the caller's promise: its cycle has the name of the main file, and what the command line has.
        let (cycle, file, parameters) = unsafe {
            let cycle = (*cf).cycle;
            (
                cycle,
                strings::bytes(&(*cycle).conf_file),
                strings::bytes(&(*cycle).conf_param),
            )
        };
        let mut reader = Reader {
            cycle,
            digest: ContextBuilder::default(),
        };
        reader.digest.add(parameters);
        let directives = phantom_token_nginx_conf::read(&mut reader, str::from_utf8(file).ok()?)?;
        Some(Text {
            directives,
            digest: reader.digest,
        })
    }
}

/// Reads the files that nginx reads, and adds them to the digest.
struct Reader {
    cycle: *mut ngx_cycle_t,
    digest: ContextBuilder,
}

impl Files for Reader {
    fn read(&mut self, path: &str) -> Option<Vec<u8>> {
        // What is not a file could be read only once.
        if !Path::new(path).is_file() {
            return None;
        }
        let text = std::fs::read(path).ok()?;
        self.digest.add(&text);
        Some(text)
    }

    fn included(&mut self, pattern: &str) -> Option<Vec<String>> {
        let mut name = pattern.as_bytes().to_vec();
        name.push(0);
        let mut full = ngx_str_t {
            len: pattern.len(),
            data: name.as_mut_ptr(),
        };
        // SAFETY: the cycle is valid, and the name is followed by a NUL. nginx puts another string, of the cycle's pool and
        // with a NUL behind it, into the place of one that is relative.
        unsafe {
            if ngx_conf_full_name(self.cycle, &raw mut full, 1) != NGX_OK as ngx_int_t {
                return None;
            }
            let path = str::from_utf8(strings::bytes(&full)).ok()?;
            if !path.contains(['*', '?', '[']) {
                return Some(vec![path.to_owned()]);
            }
            let mut glob: ngx_glob_t = std::mem::zeroed();
            glob.pattern = full.data;
            glob.log = (*self.cycle).log;
            glob.test = 1;
            let mut paths = Vec::new();
            if ngx_open_glob(&raw mut glob) != NGX_OK as ngx_int_t {
                // None is there, which is no mistake.
                return Some(paths);
            }
            let mut found = ngx_str_t {
                len: 0,
                data: std::ptr::null_mut(),
            };
            let mut readable = true;
            while ngx_read_glob(&raw mut glob, &raw mut found) == NGX_OK as ngx_int_t {
                match str::from_utf8(strings::bytes(&found)) {
                    Ok(path) => paths.push(path.to_owned()),
                    Err(_) => readable = false,
                }
            }
            ngx_close_glob(&raw mut glob);
            readable.then_some(paths)
        }
    }
}
