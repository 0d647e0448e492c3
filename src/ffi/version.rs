//! Version.

use std::ffi::{CStr, CString, c_char};
use std::sync::OnceLock;

use super::boundary::{Output, boundary_or};
use super::log::phantom_log_level;
use super::result::phantom_cache_status;
use super::stats::phantom_stat;
use super::status::phantom_status;
use super::store::{
    PHANTOM_STORE_FAILURE_MAX, PHANTOM_STORE_KEY_LENGTH, PHANTOM_STORE_VALUE_MAX,
    PHANTOM_STORE_WORDS, phantom_claimed, phantom_store_class,
};

/// The major version of this header. It is raised when programs must be rebuilt; the soname contains it.
pub const PHANTOM_VERSION_MAJOR: u32 = 0;
/// The minor version. It is raised when something is added.
pub const PHANTOM_VERSION_MINOR: u32 = 1;
/// The patch version. It is raised when something is fixed.
pub const PHANTOM_VERSION_PATCH: u32 = 0;

/// Returns the version of the loaded library as text: "0.1.0". It is never NULL, and must not be freed.
#[unsafe(no_mangle)]
pub extern "C" fn phantom_version() -> *const c_char {
    boundary_or(c"".as_ptr(), || {
        const VERSION: &CStr =
            match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
                Ok(version) => version,
                Err(_) => panic!("a version holds no NUL"),
            };
        VERSION.as_ptr()
    })
}

/// Returns the version of the loaded library as a number: 65536 × major + 256 × minor + patch.
#[unsafe(no_mangle)]
pub extern "C" fn phantom_version_number() -> u32 {
    boundary_or(0, || {
        PHANTOM_VERSION_MAJOR << 16 | PHANTOM_VERSION_MINOR << 8 | PHANTOM_VERSION_PATCH
    })
}

/// Enumerates the constants of this header, for languages that cannot include it. It returns the name of the constant
/// at `index` ("PHANTOM_TIMEOUT") and writes its value to `value`. It returns NULL if there is none at `index`. Call
/// it with 0, 1, 2, … until it returns NULL. The name must not be freed.
///
/// `value` may be NULL.
///
/// # Safety
/// `value` is NULL or can be written to.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn phantom_constant(index: usize, value: *mut i64) -> *const c_char {
    boundary_or(std::ptr::null(), || {
        let Some((name, number)) = constants().get(index) else {
            return std::ptr::null();
        };
        // SAFETY: the caller's promise for `value`.
        unsafe { Output::optional(value) }.write(*number);
        name.as_ptr()
    })
}

fn constants() -> &'static [(CString, i64)] {
    static CONSTANTS: OnceLock<Vec<(CString, i64)>> = OnceLock::new();
    CONSTANTS.get_or_init(|| {
        let statuses = phantom_status::ALL.map(|it| (format!("{it:?}"), it as i64));
        let caches = phantom_cache_status::ALL.map(|it| (format!("{it:?}"), it as i64));
        let stats = phantom_stat::ALL.map(|it| (format!("{it:?}"), it as i64));
        let levels = phantom_log_level::ALL.map(|it| (format!("{it:?}"), it as i64));
        let classes = phantom_store_class::ALL.map(|it| (format!("{it:?}"), it as i64));
        let claims = phantom_claimed::ALL.map(|it| (format!("{it:?}"), it as i64));
        let numbers = [
            ("PHANTOM_VERSION_MAJOR", PHANTOM_VERSION_MAJOR),
            ("PHANTOM_VERSION_MINOR", PHANTOM_VERSION_MINOR),
            ("PHANTOM_VERSION_PATCH", PHANTOM_VERSION_PATCH),
            ("PHANTOM_STORE_KEY_LENGTH", PHANTOM_STORE_KEY_LENGTH),
            ("PHANTOM_STORE_VALUE_MAX", PHANTOM_STORE_VALUE_MAX),
            ("PHANTOM_STORE_FAILURE_MAX", PHANTOM_STORE_FAILURE_MAX),
            ("PHANTOM_STORE_WORDS", PHANTOM_STORE_WORDS),
        ]
        .map(|(name, number)| (name.to_owned(), i64::from(number)));
        statuses
            .into_iter()
            .chain(caches)
            .chain(stats)
            .chain(levels)
            .chain(classes)
            .chain(claims)
            .chain(numbers)
            // A Rust identifier contains no NUL; if one did, it would only be left out.
            .filter_map(|(name, number)| Some((CString::new(name).ok()?, number)))
            .collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_the_package() {
        let number =
            format!("{PHANTOM_VERSION_MAJOR}.{PHANTOM_VERSION_MINOR}.{PHANTOM_VERSION_PATCH}");
        assert_eq!(number, env!("CARGO_PKG_VERSION"));
        // SAFETY: terminated and static.
        let text = unsafe { CStr::from_ptr(phantom_version()) };
        assert_eq!(text.to_str().unwrap(), number);
        assert_eq!(phantom_version_number(), 0x0000_0100);
    }
}
