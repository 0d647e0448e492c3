//! The snapshot as JSON, for consumers other than Prometheus. `docs/operations.md` describes it.

use serde_json::{Map, Value, json};

use super::{ProviderStatus, Snapshot, ZoneStatus, seconds};

pub(super) fn write(snapshot: &Snapshot) -> String {
    let providers: Vec<Value> = snapshot
        .providers
        .iter()
        .map(|provider| of_provider(snapshot, provider))
        .collect();
    let zones: Vec<Value> = snapshot.zones.iter().map(of_zone).collect();
    let versions: Map<String, Value> = snapshot
        .versions
        .iter()
        .map(|(name, version)| ((*name).to_owned(), version.as_str().into()))
        .collect();
    let value = json!({
        "versions": versions,
        "now": snapshot.now,
        "since": snapshot.since,
        "workers": snapshot.processes,
        "providers": providers,
        "zones": zones,
    });
    format!("{value:#}\n")
}

fn of_provider(snapshot: &Snapshot, provider: &ProviderStatus) -> Value {
    let stats = provider.stats();
    let requests: Map<String, Value> = snapshot
        .requests(provider)
        .map(|(outcome, count)| (outcome.to_owned(), count.into()))
        .collect();
    let verdicts: Map<String, Value> = provider
        .verdicts()
        .map(|(status, count)| (status, count.into()))
        .collect();
    let errors: Map<String, Value> = provider
        .errors()
        .map(|(kind, count, last)| {
            let error = json!({
                "count": count,
                "last_at": last.map(|last| last.at),
                "last_message": last.map(|last| &*last.message),
            });
            (kind.as_str().to_owned(), error)
        })
        .collect();
    let latency = provider.latency();
    let buckets: Vec<Value> = latency
        .iter()
        .map(|(bound, count)| json!({ "le": bound, "count": count }))
        .collect();
    json!({
        "name": provider.name,
        "zone": provider.zone,
        "workers": provider.sum.processes,
        "requests": requests,
        "verdicts": verdicts,
        "hit_ratio": provider.hit_ratio(),
        "errors": errors,
        "introspection": {
            "calls": stats.calls,
            "retries": stats.retries,
            "refreshes": stats.refreshes,
            "seconds": {
                "buckets": buckets,
                "sum": seconds(stats.latency_sum_us),
                "count": latency.last().map_or(0, |(_, all)| *all),
            },
        },
        "in_flight": stats.in_flight,
        "waiting": stats.waiting,
        "breaker": {
            "open": stats.breaker_open,
            "openings": stats.breaker_openings,
        },
        "cache": {
            "entries": stats.entries,
            "inactive_entries": stats.inactive_entries,
            "bytes": stats.bytes,
            "capacity": provider.capacity,
            "evictions": stats.evictions,
        },
    })
}

fn of_zone(zone: &ZoneStatus) -> Value {
    let counts = &zone.counts;
    json!({
        "name": zone.name,
        "entries": counts.entries,
        "inactive_entries": counts.inactive_entries,
        "claims": counts.claims,
        "bytes": counts.bytes,
        "capacity": counts.capacity,
        "evictions": counts.evictions,
        "recoveries": counts.recoveries,
    })
}
