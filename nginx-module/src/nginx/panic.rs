//! The panic boundary: a panic that reached nginx would abort the worker.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `body` and returns `otherwise` if it panics; that value must refuse the request. Rust's panic hook has then already
/// written the location to standard error, which is nginx's error log.
pub fn contained<T>(otherwise: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(otherwise)
}
