//! A queue of log lines from the client's thread to nginx's error log, which only nginx's thread may write; and a limit on
//! how often a line is repeated.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use ngx::ffi::{NGX_LOG_ERR, NGX_LOG_NOTICE, NGX_LOG_WARN, ngx_log_t};
use ngx::ngx_log_error;
use phantom_token::{CompletionQueue, LogLevel, LogSink};

/// The capacity of the queue. It fills up only if the worker is blocked.
const CAPACITY: usize = 256;

/// Lines that wait for nginx's thread.
#[derive(Default)]
pub struct Lines(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    lines: VecDeque<(LogLevel, String)>,
    lost: usize,
}

impl Lines {
    /// A client's log sink: it appends to `lines`, and `queue` wakes the worker that writes them.
    pub fn sink(lines: &Arc<Self>, queue: &Arc<CompletionQueue>) -> LogSink {
        let (lines, queue) = (Arc::clone(lines), Arc::clone(queue));
        Arc::new(move |level, line| {
            lines.push(level, line);
            queue.wake();
        })
    }

    fn push(&self, level: LogLevel, line: &str) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.lines.len() < CAPACITY {
            waiting.lines.push_back((level, line.to_owned()));
        } else {
            waiting.lost += 1;
        }
    }

    /// Writes the queued lines to `log`, a log of nginx.
    ///
    /// # Safety
    /// Called on nginx's thread, with a valid log.
    pub unsafe fn write(&self, log: *mut ngx_log_t) {
        let (lines, lost) = {
            let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.lines.is_empty() {
                return;
            }
            (
                std::mem::take(&mut waiting.lines),
                std::mem::take(&mut waiting.lost),
            )
        };
        for (level, line) in lines {
            let level = match level {
                LogLevel::Error => NGX_LOG_ERR,
                LogLevel::Warn => NGX_LOG_WARN,
                LogLevel::Info => NGX_LOG_NOTICE,
            };
            ngx_log_error!(level, log, "phantom_token: {line}");
        }
        if lost > 0 {
            ngx_log_error!(
                NGX_LOG_WARN,
                log,
                "phantom_token: {lost} more lines were lost"
            );
        }
    }
}

/// A line that is repeated only after an interval, with the number of suppressed lines.
#[derive(Default)]
pub struct LogThrottle {
    said: Cell<i64>,
    suppressed: Cell<u64>,
}

impl LogThrottle {
    /// The interval between two lines, in seconds.
    const QUIET: i64 = 10;

    /// Whether to write the line at `now`, in seconds; if so, with the number of lines suppressed since the last one.
    pub fn now(&self, now: i64) -> Option<u64> {
        if self.said.get() != 0 && now.saturating_sub(self.said.get()) < Self::QUIET {
            self.suppressed.set(self.suppressed.get() + 1);
            return None;
        }
        self.said.set(now);
        Some(self.suppressed.take())
    }
}
