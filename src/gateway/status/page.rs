//! The status page for people.
//!
//! The page is self-contained: it has no script, no image, no font, and nothing from another URL. Its
//! `Content-Security-Policy` enforces that. So it has no `style` attribute either: lengths are attributes of SVG. A
//! library generates the HTML and escapes text and attribute values.

use std::sync::LazyLock;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::numbers::{bytes, count, moment, percent, short_span, span};
use super::{ProviderStatus, Snapshot, ZoneStatus};
use crate::{ErrorKind, Stats};

/// The interval at which the page reloads itself, in seconds.
const REFRESH: u32 = 5;
const STYLE: &str = include_str!("page.css");
/// The fraction of a meter from which on it is highlighted.
const HIGH: f64 = 0.9;

/// The page's `Content-Security-Policy`: allows its own style sheet and an empty icon, and nothing else.
pub(super) fn security_policy() -> String {
    static POLICY: LazyLock<String> = LazyLock::new(|| {
        let hash = STANDARD.encode(digest::digest(&digest::SHA256, STYLE.as_bytes()));
        format!(
            "default-src 'none'; style-src 'sha256-{hash}'; img-src data:; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'"
        )
    });
    POLICY.clone()
}

pub(super) fn write(snapshot: &Snapshot, refresh: bool) -> String {
    let Snapshot {
        providers, zones, ..
    } = snapshot;
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="robots" content="noindex";
                @if refresh {
                    meta http-equiv="refresh" content=(REFRESH);
                }
                title { "Phantom Token status" }
                // Without this, browsers request an icon from the gateway.
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { "Phantom Token" }
                    p {
                        (count(snapshot.processes))
                        @if snapshot.processes == 1 { " worker" } @else { " workers" }
                        ", counting for " (span(snapshot.now.saturating_sub(snapshot.since)))
                    }
                    p {
                        (moment(snapshot.now)) " · "
                        @if refresh {
                            "every " (REFRESH) " s · "
                            a href="?format=html&refresh=off" { "pause" }
                        } @else {
                            a href="?format=html" { "resume" }
                        }
                    }
                }
                main {
                    @if providers.is_empty() {
                        section.card { p.none { "No provider is used." } }
                    }
                    @for (number, provider) in providers.iter().enumerate() {
                        (card(snapshot, number, provider))
                    }
                    @if !zones.is_empty() { (zone_card(zones)) }
                }
                footer {
                    @for (name, version) in &snapshot.versions {
                        span { (name) " " (version) }
                    }
                    span {
                        "as "
                        a href="?format=prometheus" { "Prometheus" } ", "
                        a href="?format=openmetrics" { "OpenMetrics" } ", "
                        a href="?format=json" { "JSON" }
                    }
                }
            }
        }
    }
    .into_string()
}

fn card(snapshot: &Snapshot, number: usize, provider: &ProviderStatus) -> Markup {
    let stats = provider.stats();
    let id = format!("provider-{number}");
    html! {
        section.card aria-labelledby=(id) {
            div.title {
                h2 id=(id) { (provider.name) }
                (breaker(stats.breaker_open, provider.sum.processes))
            }
            dl.facts {
                (fact("Hit ratio", match provider.hit_ratio() {
                    Some(ratio) => percent(ratio),
                    None => "–".to_owned(),
                }, html! {
                    @if let Some(ratio) = provider.hit_ratio() { (meter("meter", ratio, false)) }
                }))
                (fact("In flight", count(stats.in_flight), html! { small { (count(stats.waiting)) " waiting" } }))
                (fact("Introspections", count(stats.calls), html! { small { (count(stats.retries)) " repeated" } }))
                (fact("Remembered", count(stats.entries), html! {
                    small { (count(stats.inactive_entries)) " inactive" }
                }))
                (fact("Memory", bytes(stats.bytes), html! {
                    small { "of " (bytes(provider.capacity)) }
                    (meter("meter", ratio(stats.bytes, provider.capacity), true))
                }))
                (fact("Evicted", count(stats.evictions), html! { small { "before their time" } }))
            }
            (requests(snapshot, provider))
            (verdicts(provider))
            (latency(provider))
            (errors(snapshot, provider))
        }
    }
}

fn fact(name: &str, value: String, more: Markup) -> Markup {
    html! {
        div { dt { (name) } dd { (value) (more) } }
    }
}

fn breaker(open: u64, processes: u64) -> Markup {
    html! {
        @if open == 0 {
            span.badge.good { "breaker closed" }
        } @else if open >= processes {
            span.badge.bad { "breaker open" }
        } @else {
            span.badge.warn { "breaker open in " (count(open)) " of " (count(processes)) }
        }
    }
}

/// A bar that is filled up to a fraction.
fn meter(class: &str, part: f64, warns: bool) -> Markup {
    let class_of_fill = if warns && part >= HIGH {
        "fill high"
    } else {
        "fill"
    };
    html! {
        svg class=(class) viewBox="0 0 1000 10" preserveAspectRatio="none" aria-hidden="true" {
            rect class=(class_of_fill) width=(length(part)) height="10" {}
        }
    }
}

/// A fraction in thousandths.
fn length(part: f64) -> u32 {
    (part.clamp(0.0, 1.0) * 1000.0).round() as u32
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        return 0.0;
    }
    part as f64 / whole as f64
}

/// The colour of an outcome.
fn colour(index: usize, outcome: &str) -> String {
    match outcome {
        "ok" => "f0".to_owned(),
        "unavailable" => "fx".to_owned(),
        _ => format!("f{}", (index + 6) % 7 + 1),
    }
}

fn requests(snapshot: &Snapshot, provider: &ProviderStatus) -> Markup {
    let counts = snapshot
        .requests(provider)
        .enumerate()
        .map(|(index, (outcome, count))| (colour(index, outcome), outcome.to_owned(), count));
    shares("Requests", counts.collect())
}

fn verdicts(provider: &ProviderStatus) -> Markup {
    const COLOURS: [&str; 5] = ["f0", "f6", "f4", "f3", "f1"];
    let counts = provider
        .verdicts()
        .zip(COLOURS)
        .map(|((status, count), colour)| (colour.to_owned(), status, count));
    shares("Verdicts", counts.collect())
}

/// A bar with a segment for each count, and a legend with colours, words and counts.
fn shares(title: &str, mut counts: Vec<(String, String, u64)>) -> Markup {
    let all = counts
        .iter()
        .fold(0u64, |all, (_, _, count)| all.saturating_add(*count));
    counts.retain(|(_, _, count)| *count > 0);
    let mut start = 0;
    let parts: Vec<_> = counts
        .into_iter()
        .map(|(colour, word, count)| {
            let part = ratio(count, all);
            let from = start;
            start += length(part);
            (colour, word, count, part, from)
        })
        .collect();
    html! {
        section {
            h3 { (title) ": " (count(all)) }
            @if parts.is_empty() {
                p.none { "None yet." }
            } @else {
                svg.share viewBox="0 0 1000 12" preserveAspectRatio="none" aria-hidden="true" {
                    @for (class, _, _, part, from) in &parts {
                        rect class=(class) x=(from) width=(length(*part)) height="12" {}
                    }
                }
                ul.legend {
                    @for (class, word, number, part, _) in &parts {
                        li {
                            svg viewBox="0 0 10 10" aria-hidden="true" {
                                rect class=(class) width="10" height="10" rx="3" {}
                            }
                            (word) " " strong { (count(*number)) } " " span.none { (percent(*part)) }
                        }
                    }
                }
            }
        }
    }
}

/// The index of the latency bound that this fraction of all calls stayed within; `None` when there was no call, or no
/// bound is large enough.
fn within(buckets: &[(Option<f64>, u64)], part: f64) -> Option<usize> {
    let all = buckets.last()?.1;
    if all == 0 {
        return None;
    }
    let wanted = all as f64 * part;
    buckets
        .iter()
        .position(|(_, count)| *count as f64 >= wanted)
        .filter(|&index| index < Stats::LATENCY_BOUNDS.len())
}

fn latency(provider: &ProviderStatus) -> Markup {
    const WIDTH: usize = 20;
    const HEIGHT: u32 = 80;
    let latency = provider.stats().latency;
    let buckets = provider.latency();
    let most = latency.iter().copied().max().unwrap_or(0);
    let calls = buckets.last().map_or(0, |(_, count)| *count);
    let bound = |index: usize| match Stats::LATENCY_BOUNDS.get(index) {
        Some(&bound) => format!("up to {}", short_span(bound)),
        None => format!(
            "beyond {}",
            short_span(Stats::LATENCY_BOUNDS[Stats::LATENCY_BOUNDS.len() - 1])
        ),
    };
    let quantile = |part: f64| match within(&buckets, part) {
        Some(index) => bound(index),
        None => bound(latency.len()),
    };
    let told = format!(
        "Half of the calls took {}, 99 of 100 took {}.",
        quantile(0.5),
        quantile(0.99)
    );
    html! {
        section {
            h3 {
                "Latency of the authorization server"
                @if calls > 0 { ": median " (quantile(0.5)) ", 99 % " (quantile(0.99)) }
            }
            @if calls == 0 {
                p.none { "No call yet." }
            } @else {
                svg.bars viewBox={ "0 0 " (latency.len() * WIDTH) " " (HEIGHT) } preserveAspectRatio="none"
                    role="img" aria-label=(told) {
                    @for (index, number) in latency.iter().enumerate() {
                        @let height = if *number == 0 { 1 } else {
                            (ratio(*number, most) * f64::from(HEIGHT)).round().clamp(3.0, f64::from(HEIGHT)) as u32
                        };
                        rect class=(if *number == 0 { "base" } else { "bar" })
                            x=(index * WIDTH + 1) y=(HEIGHT - height) width=(WIDTH - 2) height=(height) {
                            title { (count(*number)) " calls " (bound(index)) }
                        }
                    }
                }
                div.axis aria-hidden="true" {
                    span { (short_span(Stats::LATENCY_BOUNDS[0])) }
                    span { (short_span(Stats::LATENCY_BOUNDS[Stats::LATENCY_BOUNDS.len() / 2])) }
                    span { "> " (short_span(Stats::LATENCY_BOUNDS[Stats::LATENCY_BOUNDS.len() - 1])) }
                }
            }
        }
    }
}

fn errors(snapshot: &Snapshot, provider: &ProviderStatus) -> Markup {
    let mut seen: Vec<_> = provider
        .errors()
        .filter(|(_, count, last)| *count > 0 || last.is_some())
        .collect();
    // The latest first.
    seen.sort_by_key(|(_, _, last)| std::cmp::Reverse(last.map_or(0, |last| last.at)));
    html! {
        section {
            h3 { "Last errors" }
            @if seen.is_empty() {
                p.none { "None." }
            } @else {
                div.scroll {
                    table {
                        thead {
                            tr {
                                th scope="col" { "MetricType" }
                                th.number scope="col" { "Requests" }
                                th scope="col" { "Last" }
                                th scope="col" { "It said" }
                            }
                        }
                        tbody {
                            @for (kind, number, last) in seen {
                                tr {
                                    td class=(grave(kind)) { (kind.as_str()) }
                                    td.number { (count(number)) }
                                    td.when {
                                        @if let Some(last) = last {
                                            time title=(moment(last.at)) {
                                                (span(snapshot.now.saturating_sub(last.at))) " ago"
                                            }
                                        }
                                    }
                                    td.said { @if let Some(last) = last { (last.message) } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn grave(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Busy | ErrorKind::Overloaded | ErrorKind::Stopped | ErrorKind::CircuitOpen => {
            "warn"
        }
        _ => "bad",
    }
}

fn zone_card(zones: &[ZoneStatus]) -> Markup {
    html! {
        section.card.wide aria-labelledby="zones" {
            div.title { h2 id="zones" { "Zones" } }
            div.scroll {
                table {
                    thead {
                        tr {
                            th scope="col" { "Zone" }
                            th scope="col" { "In use" }
                            th.number scope="col" { "Entries" }
                            th.number scope="col" { "Inactive" }
                            th.number scope="col" { "Claims" }
                            th.number scope="col" { "Evictions" }
                            th.number scope="col" { "Recoveries" }
                        }
                    }
                    tbody {
                        @for ZoneStatus { name, counts } in zones {
                            tr {
                                th scope="row" { (name) }
                                td {
                                    (bytes(counts.bytes)) " of " (bytes(counts.capacity))
                                    (meter("meter", ratio(counts.bytes, counts.capacity), true))
                                }
                                td.number { (count(counts.entries)) }
                                td.number { (count(counts.inactive_entries)) }
                                td.number { (count(counts.claims)) }
                                td.number { (count(counts.evictions)) }
                                td.number { (count(counts.recoveries)) }
                            }
                        }
                    }
                }
            }
        }
    }
}
