//! The last error of each kind.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::{Error, ErrorKind};

/// The last error of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastError {
    /// The time of the error, in seconds since the epoch.
    pub at: i64,
    /// Its message: for the operator of the gateway, and without any secret.
    pub message: Arc<str>,
}

/// The last error of each kind, by [`ErrorKind::index`].
pub type LastErrors = [Option<LastError>; ErrorKind::ALL.len()];

/// Keeps the last error of each kind.
#[derive(Default)]
pub(super) struct Failures(Mutex<LastErrors>);

impl Failures {
    pub(super) fn note(&self, error: &Error, unix: i64) {
        let last = LastError {
            at: unix,
            message: error.shared_message(),
        };
        let former = self.0.lock()[error.kind().index()].replace(last);
        // Outside the lock.
        drop(former);
    }

    pub(super) fn read(&self) -> LastErrors {
        self.0.lock().clone()
    }
}
