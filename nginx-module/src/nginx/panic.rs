//! Where panics end: one that reached nginx would abort the worker.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `body`; when it panics, answers `otherwise`, which must be what refuses. Rust has then already written where
/// it happened to standard error, which is nginx's error log.
pub fn contained<T>(otherwise: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(otherwise)
}
