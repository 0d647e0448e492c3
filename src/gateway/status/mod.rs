//! What a gateway shows of itself, to machines and to people.
//!
//! | file | what it owns |
//! | --- | --- |
//! | `negotiate.rs` | which format is wanted |
//! | `metrics.rs` | what is exported, under which names: Prometheus and OpenMetrics |
//! | `exposition.rs` | … and how that is written |
//! | `json.rs` | the same as JSON |
//! | `page.rs`, `page.css` | the page for people |
//! | `numbers.rs` | numbers as people read them |
//!
//! All of it is pure: a [`Snapshot`] and what was asked for in, headers and a body out. Where the numbers come from is the
//! host's affair; see [`SharedMetrics`](crate::gateway::metrics::SharedMetrics). No token, JWT or secret is in a snapshot.
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

/// Everything that is shown, as of one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// When that is, in seconds since the epoch.
    pub now: i64,
    /// Since when is counted, in seconds since the epoch.
    pub since: i64,
    /// What is at work: names, which must be valid in a label, and versions.
    pub versions: Vec<(&'static str, String)>,
    /// How many processes count now.
    pub processes: u64,
    /// What each place of [`ProcessMetrics::outcomes`](crate::gateway::metrics::ProcessMetrics::outcomes) stands for: words for labels.
    pub outcomes: &'static [&'static str],
    /// The providers, in the order in which they are shown.
    pub providers: Vec<ProviderStatus>,
    /// The zones, likewise.
    pub zones: Vec<ZoneStatus>,
}

/// What is shown of a provider.
#[derive(Debug, Clone, Default)]
pub struct ProviderStatus {
    /// Its name.
    pub name: String,
    /// The zone in which processes remember together.
    pub zone: Option<String>,
    /// How many bytes all processes together may remember in, each for itself.
    pub capacity: u64,
    /// What they have done.
    pub sum: Totals,
}

/// What is shown of a zone.
#[derive(Debug, Clone, Default)]
pub struct ZoneStatus {
    /// Its name.
    pub name: String,
    /// What it holds and has done.
    pub counts: ZoneCounts,
}

/// What is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The media type.
    pub content_type: &'static str,
    /// The other headers: names and values.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: String,
}

/// Writes a snapshot as it was asked for.
pub fn render(snapshot: &Snapshot, asked: RequestedFormat) -> Rendered {
    let mut headers = vec![
        // It is of this moment.
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
    /// Each outcome that has a name, and how many requests of the provider ended so.
    fn requests(&self, provider: &ProviderStatus) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = provider.sum.done.outcomes;
        self.outcomes.iter().copied().zip(counts)
    }
}

impl ProviderStatus {
    fn stats(&self) -> &Stats {
        &self.sum.done.stats
    }

    /// Where verdicts came from, and for how many requests.
    fn verdicts(&self) -> impl Iterator<Item = (String, u64)> {
        CacheStatus::ALL
            .iter()
            .map(|status| status.as_str().to_ascii_lowercase())
            .zip(self.sum.done.verdicts)
    }

    /// The part of all verdicts that was remembered, in the process or the zone, and not past its time.
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

    /// How many calls took at most so many seconds, for each bound; the last one has none and counts all.
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
