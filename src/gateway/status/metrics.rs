//! The exported metrics and their names. `docs/operations.md` lists them for authors of dashboards: renaming a metric
//! here breaks their dashboards.

use super::exposition::{Dialect, Exposition, Metric, MetricType};
use super::{ProviderStatus, Snapshot, ZoneStatus, seconds};
use crate::Stats;
use crate::cache::ZoneCounts;

/// A number of a provider.
type OfProvider = (Metric, fn(&Stats) -> u64);
/// A number of a zone.
type OfZone = (Metric, fn(&ZoneCounts) -> u64);

const fn metric(
    kind: MetricType,
    name: &'static str,
    unit: &'static str,
    help: &'static str,
) -> Metric {
    Metric {
        name,
        kind,
        unit,
        help,
    }
}

const BUILD: Metric = metric(
    MetricType::Info,
    "phantom_token_build",
    "",
    "Versions of what is at work.",
);
const SINCE: Metric = metric(
    MetricType::Gauge,
    "phantom_token_start_time_seconds",
    "seconds",
    "When counting began, in seconds since the epoch.",
);
const WORKERS: Metric = metric(
    MetricType::Gauge,
    "phantom_token_workers",
    "",
    "Processes that count now.",
);
const REQUESTS: Metric = metric(
    MetricType::Counter,
    "phantom_token_requests",
    "",
    "Requests by what became of them, as in $phantom_token_result.",
);
const VERDICTS: Metric = metric(
    MetricType::Counter,
    "phantom_token_verdicts",
    "",
    "Requests that got a verdict, by where it came from, as in $phantom_token_cache.",
);
const ERRORS: Metric = metric(
    MetricType::Counter,
    "phantom_token_errors",
    "",
    "Requests that got no verdict, by kind of error.",
);
const LAST_ERROR: Metric = metric(
    MetricType::Gauge,
    "phantom_token_last_error_timestamp_seconds",
    "seconds",
    "When the last error of a kind was, in seconds since the epoch.",
);
const LATENCY: Metric = metric(
    MetricType::Histogram,
    "phantom_token_introspection_duration_seconds",
    "seconds",
    "How long calls to the authorization server took.",
);
const OF_PROVIDERS: [OfProvider; 8] = [
    (
        metric(
            MetricType::Counter,
            "phantom_token_introspections",
            "",
            "Calls to the authorization server, repeats included.",
        ),
        |stats| stats.calls,
    ),
    (
        metric(
            MetricType::Counter,
            "phantom_token_introspection_retries",
            "",
            "Calls repeated.",
        ),
        |stats| stats.retries,
    ),
    (
        metric(
            MetricType::Counter,
            "phantom_token_refreshes",
            "",
            "Verdicts found out anew in the background, before their time ended.",
        ),
        |stats| stats.refreshes,
    ),
    (
        metric(
            MetricType::Gauge,
            "phantom_token_in_flight",
            "",
            "Tokens being asked about now.",
        ),
        |stats| stats.in_flight,
    ),
    (
        metric(
            MetricType::Gauge,
            "phantom_token_waiting_requests",
            "",
            "Requests waiting for a verdict now.",
        ),
        |stats| stats.waiting,
    ),
    (
        metric(
            MetricType::Gauge,
            "phantom_token_breaker_open",
            "",
            "Processes that do not ask the authorization server now, because it has failed too often.",
        ),
        |stats| stats.breaker_open,
    ),
    (
        metric(
            MetricType::Counter,
            "phantom_token_breaker_openings",
            "",
            "How often processes began not to ask it.",
        ),
        |stats| stats.breaker_openings,
    ),
    (
        metric(
            MetricType::Counter,
            "phantom_token_cache_evictions",
            "",
            "Verdicts pushed out of the processes' own memory before their time.",
        ),
        |stats| stats.evictions,
    ),
];
const CACHE_ENTRIES: Metric = metric(
    MetricType::Gauge,
    "phantom_token_cache_entries",
    "",
    "Verdicts in the processes' own memory.",
);
const CACHE_BYTES: Metric = metric(
    MetricType::Gauge,
    "phantom_token_cache_bytes",
    "bytes",
    "Bytes that they take.",
);
const CACHE_CAPACITY: Metric = metric(
    MetricType::Gauge,
    "phantom_token_cache_capacity_bytes",
    "bytes",
    "Bytes that they may take, in all processes together.",
);
const ZONE_ENTRIES: Metric = metric(
    MetricType::Gauge,
    "phantom_token_zone_entries",
    "",
    "Verdicts in a zone.",
);
const OF_ZONES: [OfZone; 5] = [
    (
        metric(
            MetricType::Gauge,
            "phantom_token_zone_claims",
            "",
            "Tokens that some process is asking about, and failures remembered for a moment.",
        ),
        |counts| counts.claims,
    ),
    (
        metric(
            MetricType::Gauge,
            "phantom_token_zone_bytes",
            "bytes",
            "Bytes in use in a zone.",
        ),
        |counts| counts.bytes,
    ),
    (
        metric(
            MetricType::Gauge,
            "phantom_token_zone_capacity_bytes",
            "bytes",
            "Bytes that a zone has.",
        ),
        |counts| counts.capacity,
    ),
    (
        metric(
            MetricType::Counter,
            "phantom_token_zone_evictions",
            "",
            "Verdicts pushed out of a zone before their time.",
        ),
        |counts| counts.evictions,
    ),
    (
        metric(
            MetricType::Counter,
            "phantom_token_zone_recoveries",
            "",
            "How often a part of a zone was emptied, because a process died while it changed it.",
        ),
        |counts| counts.recoveries,
    ),
];

/// Writes all metrics.
pub(super) fn write(snapshot: &Snapshot, dialect: Dialect) -> String {
    let mut out = Exposition::new(dialect);
    let Snapshot {
        providers, zones, ..
    } = snapshot;
    let versions: Vec<(&str, &str)> = snapshot
        .versions
        .iter()
        .map(|(name, version)| (*name, version.as_str()))
        .collect();
    out.begin(&BUILD);
    out.sample(&BUILD, &versions, 1);
    out.begin(&SINCE);
    out.sample(&SINCE, &[], snapshot.since);
    out.begin(&WORKERS);
    out.sample(&WORKERS, &[], snapshot.processes);

    by_word(&mut out, &REQUESTS, providers, "outcome", |provider| {
        let requests = snapshot.requests(provider);
        requests
            .map(|(outcome, count)| (outcome.to_owned(), count))
            .collect()
    });
    by_word(&mut out, &VERDICTS, providers, "cache", |provider| {
        provider.verdicts().collect()
    });
    by_word(&mut out, &ERRORS, providers, "kind", |provider| {
        let errors = provider.errors();
        errors
            .map(|(kind, count, _)| (kind.as_str().to_owned(), count))
            .collect()
    });
    by_word(&mut out, &LAST_ERROR, providers, "kind", |provider| {
        let errors = provider.errors();
        errors
            .filter_map(|(kind, _, last)| {
                let at = u64::try_from(last?.at).ok()?;
                Some((kind.as_str().to_owned(), at))
            })
            .collect()
    });
    out.begin(&LATENCY);
    for provider in providers {
        out.histogram(
            &LATENCY,
            &[("provider", &provider.name)],
            &provider.latency(),
            seconds(provider.stats().latency_sum_us),
        );
    }
    for (metric, number) in &OF_PROVIDERS {
        of_providers(&mut out, metric, providers, |provider| {
            number(provider.stats())
        });
    }
    by_word(&mut out, &CACHE_ENTRIES, providers, "verdict", |provider| {
        let stats = provider.stats();
        actives_and_inactives(stats.entries, stats.inactive_entries)
    });
    of_providers(&mut out, &CACHE_BYTES, providers, |provider| {
        provider.stats().bytes
    });
    of_providers(&mut out, &CACHE_CAPACITY, providers, |provider| {
        provider.capacity
    });

    if zones.is_empty() {
        return out.end();
    }
    out.begin(&ZONE_ENTRIES);
    for ZoneStatus { name, counts } in zones {
        for (verdict, count) in actives_and_inactives(counts.entries, counts.inactive_entries) {
            let labels = [("zone", name.as_str()), ("verdict", &verdict)];
            out.sample(&ZONE_ENTRIES, &labels, count);
        }
    }
    for (metric, number) in &OF_ZONES {
        out.begin(metric);
        for zone in zones {
            out.sample(metric, &[("zone", &zone.name)], number(&zone.counts));
        }
    }
    out.end()
}

fn of_providers(
    out: &mut Exposition,
    metric: &Metric,
    providers: &[ProviderStatus],
    number: impl Fn(&ProviderStatus) -> u64,
) {
    out.begin(metric);
    for provider in providers {
        out.sample(metric, &[("provider", &provider.name)], number(provider));
    }
}

/// Several numbers of each provider, distinguished by a label.
fn by_word(
    out: &mut Exposition,
    metric: &Metric,
    providers: &[ProviderStatus],
    label: &str,
    numbers: impl Fn(&ProviderStatus) -> Vec<(String, u64)>,
) {
    out.begin(metric);
    for provider in providers {
        for (word, number) in numbers(provider) {
            let labels = [("provider", provider.name.as_str()), (label, &word)];
            out.sample(metric, &labels, number);
        }
    }
}

fn actives_and_inactives(all: u64, inactive: u64) -> Vec<(String, u64)> {
    vec![
        ("active".to_owned(), all.saturating_sub(inactive)),
        ("inactive".to_owned(), inactive),
    ]
}
