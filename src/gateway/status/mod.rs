//! Status of a gateway: metrics, JSON, and a page for people.
//!
//! | file | contents |
//! | --- | --- |
//! | `negotiate.rs` | content negotiation: the format of the answer |
//! | `metrics.rs` | the exported metrics and their names: Prometheus and OpenMetrics |
//! | `exposition.rs` | the text formats of metrics |
//! | `json.rs` | the status as JSON |
//! | `page.rs`, `page.css` | the status page for people |
//! | `numbers.rs` | numbers formatted for people |
//!
//! All of it is pure: it takes a [`Snapshot`] and the requested format, and returns headers and a body. The host
//! collects the numbers; see [`SharedMetrics`](crate::gateway::metrics::SharedMetrics). No token, JWT or secret is in a
//! snapshot.
//!
//! ```
//! use phantom_token::gateway::status::{RequestedFormat, Snapshot, render};
//!
//! let asked = RequestedFormat::of("format=json", "")?;
//! let rendered = render(&Snapshot::default(), asked);
//! assert_eq!(rendered.content_type, "application/json");
//! # Ok::<(), phantom_token::gateway::status::UnknownFormat>(())
//! ```

mod exposition;
mod json;
mod metrics;
mod negotiate;
mod numbers;
mod page;
#[cfg(test)]
mod tests;

use crate::cache::ZoneCounts;
use crate::gateway::metrics::Totals;
use crate::verdict::CacheStatus;
use crate::{ErrorKind, Stats};

pub use negotiate::{Format, RequestedFormat, UnknownFormat};

/// The version of this crate.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The status of a gateway at one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// The time of the snapshot, in seconds since the epoch.
    pub now: i64,
    /// The time when counting began, in seconds since the epoch.
    pub since: i64,
    /// The components and their versions. The names must be valid in a label.
    pub versions: Vec<(&'static str, String)>,
    /// The number of processes that count now.
    pub processes: u64,
    /// The labels of the outcomes: one for each index of
    /// [`ProcessMetrics::outcomes`](crate::gateway::metrics::ProcessMetrics::outcomes).
    pub outcomes: &'static [&'static str],
    /// The providers, in the order in which they are shown.
    pub providers: Vec<ProviderStatus>,
    /// The zones, in the order in which they are shown.
    pub zones: Vec<ZoneStatus>,
}

/// The status of a provider.
#[derive(Debug, Clone, Default)]
pub struct ProviderStatus {
    /// Its name.
    pub name: String,
    /// The zone in which processes share verdicts.
    pub zone: Option<String>,
    /// The sum of the cache sizes of all processes, in bytes.
    pub capacity: u64,
    /// The metrics of all processes for the provider.
    pub sum: Totals,
}

/// The status of a zone.
#[derive(Debug, Clone, Default)]
pub struct ZoneStatus {
    /// Its name.
    pub name: String,
    /// Its metrics.
    pub counts: ZoneCounts,
}

/// The answer to a status request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The media type.
    pub content_type: &'static str,
    /// The other headers: names and values.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: String,
}

/// Renders a snapshot in the requested format.
pub fn render(snapshot: &Snapshot, asked: RequestedFormat) -> Rendered {
    let mut headers = vec![
        // The status is valid for this moment only.
        ("Cache-Control", "no-store".to_owned()),
        ("X-Content-Type-Options", "nosniff".to_owned()),
        ("Vary", "Accept".to_owned()),
    ];
    let (content_type, body) = match asked.format {
        Format::Prometheus => (
            "text/plain; version=0.0.4; charset=utf-8",
            metrics::write(snapshot, exposition::Dialect::Prometheus),
        ),
        Format::OpenMetrics => (
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            metrics::write(snapshot, exposition::Dialect::OpenMetrics),
        ),
        Format::Json => ("application/json", json::write(snapshot)),
        Format::Html => {
            headers.push(("Content-Security-Policy", page::security_policy()));
            headers.push(("Referrer-Policy", "no-referrer".to_owned()));
            (
                "text/html; charset=utf-8",
                page::write(snapshot, asked.refresh),
            )
        }
    };
    Rendered {
        content_type,
        headers,
        body,
    }
}

impl Snapshot {
    /// Each outcome that has a label, and the number of the provider's requests with that outcome.
    fn requests(&self, provider: &ProviderStatus) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = provider.sum.done.outcomes;
        self.outcomes.iter().copied().zip(counts)
    }
}

impl ProviderStatus {
    fn stats(&self) -> &Stats {
        &self.sum.done.stats
    }

    /// The sources of verdicts, and the number of requests for each.
    fn verdicts(&self) -> impl Iterator<Item = (String, u64)> {
        CacheStatus::ALL
            .iter()
            .map(|status| status.as_str().to_ascii_lowercase())
            .zip(self.sum.done.verdicts)
    }

    /// The fraction of all verdicts that came from a cache (of the process or the zone) and were fresh.
    fn hit_ratio(&self) -> Option<f64> {
        let verdicts = &self.sum.done.verdicts;
        let all: u128 = verdicts.iter().copied().map(u128::from).sum();
        let remembered: u128 = [CacheStatus::Hit, CacheStatus::Shared]
            .iter()
            .map(|status| u128::from(verdicts[status.index()]))
            .sum();
        (all > 0).then(|| remembered as f64 / all as f64)
    }

    fn errors(&self) -> impl Iterator<Item = (ErrorKind, u64, Option<&crate::LastError>)> {
        ErrorKind::ALL.iter().map(|&kind| {
            let done = &self.sum.done;
            let index = kind.index();
            (
                kind,
                done.stats.errors[index],
                done.last_errors[index].as_ref(),
            )
        })
    }

    /// The number of calls up to each latency bound. The last bound is infinite, and counts all calls.
    fn latency(&self) -> Vec<(Option<f64>, u64)> {
        let bounds = Stats::LATENCY_BOUNDS
            .iter()
            .map(|&micros| Some(seconds(micros)))
            .chain([None]);
        let mut count = 0u64;
        bounds
            .zip(self.stats().latency)
            .map(|(bound, more)| {
                count = count.saturating_add(more);
                (bound, count)
            })
            .collect()
    }
}

fn seconds(micros: u64) -> f64 {
    micros as f64 / 1e6
}
