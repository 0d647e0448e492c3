use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::LastError;

const OUTCOMES: &[&str] = &["ok", "missing", "inactive", "unavailable"];

fn snapshot(name: &str, message: &str) -> Snapshot {
    let mut sum = Totals {
        processes: 4,
        ..Totals::default()
    };
    let done = &mut sum.done;
    done.outcomes[..4].copy_from_slice(&[1200, 30, 7, 3]);
    done.verdicts = [900, 200, 50, 10, 40];
    done.stats.calls = 41;
    done.stats.latency[0] = 1;
    done.stats.latency[3] = 30;
    done.stats.latency[14] = 10;
    done.stats.latency_sum_us = 12_345_678;
    done.stats.errors[0] = 3;
    done.stats.entries = 21;
    done.stats.inactive_entries = 1;
    done.stats.bytes = 4096;
    done.last_errors[0] = Some(LastError {
        at: 1_800_000_000 - 75,
        message: message.into(),
    });
    Snapshot {
        now: 1_800_000_000,
        since: 1_799_990_000,
        versions: vec![
            ("module", "1.2.3".to_owned()),
            ("nginx", "1.22.1".to_owned()),
        ],
        processes: 4,
        outcomes: OUTCOMES,
        providers: vec![ProviderStatus {
            name: name.to_owned(),
            zone: Some("tokens".to_owned()),
            capacity: 8192,
            sum,
        }],
        zones: vec![ZoneStatus {
            name: "tokens".to_owned(),
            counts: ZoneCounts {
                entries: 5,
                inactive_entries: 2,
                capacity: 1000,
                bytes: 10,
                ..ZoneCounts::default()
            },
        }],
    }
}

fn body(snapshot: &Snapshot, format: Format) -> String {
    let asked = RequestedFormat {
        format,
        refresh: true,
    };
    render(snapshot, asked).body
}

#[test]
fn prometheus_has_each_number_once_under_its_name() {
    let text = body(&snapshot("main", ""), Format::Prometheus);
    for line in [
        "# TYPE phantom_token_requests_total counter",
        "phantom_token_build_info{module=\"1.2.3\",nginx=\"1.22.1\"} 1",
        "phantom_token_workers 4",
        "phantom_token_requests_total{provider=\"main\",outcome=\"ok\"} 1200",
        "phantom_token_requests_total{provider=\"main\",outcome=\"unavailable\"} 3",
        "phantom_token_verdicts_total{provider=\"main\",cache=\"hit\"} 900",
        "phantom_token_verdicts_total{provider=\"main\",cache=\"miss\"} 40",
        "phantom_token_errors_total{provider=\"main\",kind=\"unreachable\"} 3",
        "phantom_token_last_error_timestamp_seconds{provider=\"main\",kind=\"unreachable\"} 1799999925",
        "phantom_token_introspection_duration_seconds_bucket{provider=\"main\",le=\"0.0005\"} 1",
        "phantom_token_introspection_duration_seconds_bucket{provider=\"main\",le=\"0.005\"} 31",
        "phantom_token_introspection_duration_seconds_bucket{provider=\"main\",le=\"10.0\"} 31",
        "phantom_token_introspection_duration_seconds_bucket{provider=\"main\",le=\"+Inf\"} 41",
        "phantom_token_introspection_duration_seconds_sum{provider=\"main\"} 12.345678",
        "phantom_token_introspection_duration_seconds_count{provider=\"main\"} 41",
        "phantom_token_cache_entries{provider=\"main\",verdict=\"active\"} 20",
        "phantom_token_cache_capacity_bytes{provider=\"main\"} 8192",
        "phantom_token_zone_entries{zone=\"tokens\",verdict=\"active\"} 3",
        "phantom_token_zone_capacity_bytes{zone=\"tokens\"} 1000",
    ] {
        assert_eq!(
            text.lines().filter(|&found| found == line).count(),
            1,
            "{line}\n{text}"
        );
    }
    assert!(!text.contains("# EOF") && !text.contains("# UNIT"));
    assert!(text.ends_with('\n'));
}

#[test]
fn openmetrics_names_families_without_their_suffix_has_units_and_an_end() {
    let text = body(&snapshot("main", ""), Format::OpenMetrics);
    for line in [
        "# TYPE phantom_token_requests counter",
        "# TYPE phantom_token_build info",
        "# UNIT phantom_token_introspection_duration_seconds seconds",
        "# UNIT phantom_token_zone_capacity_bytes bytes",
        "phantom_token_requests_total{provider=\"main\",outcome=\"ok\"} 1200",
    ] {
        assert_eq!(
            text.lines().filter(|&found| found == line).count(),
            1,
            "{line}\n{text}"
        );
    }
    assert!(text.ends_with("\n# EOF\n"));
}

/// The samples of an exposition, by name and labels, parsed by the format's rules and independently of the writer.
fn samples(text: &str) -> BTreeMap<(String, Vec<(String, String)>), String> {
    let mut samples = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, rest) = line.split_at(line.find(['{', ' ']).unwrap());
        let mut labels = Vec::new();
        let mut rest = rest;
        while let Some(next) = rest.strip_prefix(['{', ',']) {
            let (label, value) = next.split_once("=\"").unwrap();
            let mut unescaped = String::new();
            let mut characters = value.char_indices();
            let end = loop {
                match characters.next().unwrap() {
                    (end, '"') => break end,
                    (_, '\\') => unescaped.push(match characters.next().unwrap().1 {
                        'n' => '\n',
                        other @ ('"' | '\\') => other,
                        other => panic!("\\{other}"),
                    }),
                    (_, other) => unescaped.push(other),
                }
            };
            labels.push((label.to_owned(), unescaped));
            rest = &value[end + 1..];
        }
        let value = rest
            .strip_prefix('}')
            .unwrap_or(rest)
            .strip_prefix(' ')
            .unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        let known = samples.insert((name.to_owned(), labels), value.to_owned());
        assert!(known.is_none(), "twice: {line}");
    }
    samples
}

#[test]
fn both_texts_and_the_json_say_the_same() {
    let snapshot = snapshot("main", "refused");
    let prometheus = samples(&body(&snapshot, Format::Prometheus));
    let openmetrics = samples(
        body(&snapshot, Format::OpenMetrics)
            .strip_suffix("# EOF\n")
            .unwrap(),
    );
    assert_eq!(prometheus, openmetrics);

    let json: Value = serde_json::from_str(&body(&snapshot, Format::Json)).unwrap();
    let provider = &json["providers"][0];
    assert_eq!(provider["requests"]["ok"], 1200);
    assert_eq!(provider["hit_ratio"].as_f64(), Some(1100.0 / 1200.0));
    assert_eq!(provider["errors"]["unreachable"]["count"], 3);
    assert_eq!(provider["errors"]["unreachable"]["last_message"], "refused");
    assert_eq!(provider["errors"]["timeout"]["last_at"], Value::Null);
    let seconds = &provider["introspection"]["seconds"];
    assert_eq!(seconds["buckets"][14]["le"], Value::Null);
    assert_eq!(seconds["buckets"][14]["count"], seconds["count"]);
    assert_eq!(json["versions"]["nginx"], "1.22.1");
    assert_eq!(json["zones"][0]["capacity"], 1000);
}

#[test]
fn the_page_shows_what_there_is_and_needs_nothing_else() {
    let asked = RequestedFormat {
        format: Format::Html,
        refresh: true,
    };
    let rendered = render(&snapshot("main", "connection refused"), asked);
    let page = &rendered.body;
    for shown in [
        "main",
        "91.7 %",
        "1,200",
        "connection refused",
        "1 min ago",
        "4.0 KiB",
        "1.22.1",
        "median up to 5 ms, 99 % beyond 10 s",
        "http-equiv=\"refresh\"",
    ] {
        assert!(page.contains(shown), "{shown}\n{page}");
    }
    for absent in [
        "<script", "http://", "https://", " style=", "url(", "@import", "onload",
    ] {
        assert!(!page.contains(absent), "{absent}");
    }
    let policy = rendered
        .headers
        .iter()
        .find_map(|(name, value)| (*name == "Content-Security-Policy").then_some(value))
        .unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"));
    let still = RequestedFormat {
        refresh: false,
        ..asked
    };
    assert!(
        !render(&snapshot("main", ""), still)
            .body
            .contains("http-equiv=\"refresh\"")
    );
}

#[test]
fn nothing_at_all_is_shown_too() {
    for &format in Format::ALL {
        assert!(!body(&Snapshot::default(), format).is_empty());
    }
    let idle = Snapshot {
        providers: vec![ProviderStatus::default()],
        ..Snapshot::default()
    };
    for &format in Format::ALL {
        let text = body(&idle, format);
        assert!(!text.contains("NaN") && !text.contains("} inf"), "{text}");
    }
}

#[test]
fn numbers_of_any_size_are_shown() {
    let mut full = snapshot("main", "");
    let done = &mut full.providers[0].sum.done;
    done.outcomes = [u64::MAX; 16];
    done.verdicts = [u64::MAX; 5];
    done.stats.latency = [u64::MAX; 15];
    done.stats.bytes = u64::MAX;
    done.stats.inactive_entries = u64::MAX;
    done.stats.breaker_open = u64::MAX;
    done.stats.latency_sum_us = u64::MAX;
    full.now = i64::MIN;
    full.since = i64::MAX;
    for &format in Format::ALL {
        assert!(!body(&full, format).is_empty());
    }
}

/// The tags of a page, in document order.
fn tags(page: &str) -> Vec<String> {
    let mut tags = Vec::new();
    let mut rest = page;
    while let Some(start) = rest.find('<') {
        let end = rest[start..].find(['>', ' ']).unwrap();
        tags.push(rest[start..start + end].to_owned());
        rest = &rest[start + end..];
    }
    tags
}

proptest! {
    #[test]
    fn no_name_and_no_message_breaks_out_of_its_place(name in "\\PC*|[<>&\"'\\\\{}= a-z/\n]*", message in "\\PC*|[<>&\"'a-z/]*") {
        let plain = snapshot("main", "x");
        let ugly = snapshot(&name, &message);
        let texts = [Format::Prometheus, Format::OpenMetrics].map(|format| {
            let read = samples(&body(&ugly, format));
            let names: BTreeSet<String> = read
                .keys()
                .flat_map(|(_, labels)| labels)
                .filter(|(label, _)| label == "provider")
                .map(|(_, value)| value.clone())
                .collect();
            assert_eq!(names, BTreeSet::from([name.clone()]));
            read.len()
        });
        prop_assert_eq!(texts[0], samples(&body(&plain, Format::Prometheus)).len());
        prop_assert_eq!(texts[0], texts[1]);

        let json: Value = serde_json::from_str(&body(&ugly, Format::Json)).unwrap();
        prop_assert_eq!(json["providers"][0]["name"].as_str(), Some(name.as_str()));
        prop_assert_eq!(tags(&body(&ugly, Format::Html)), tags(&body(&plain, Format::Html)));
    }

    #[test]
    fn any_query_and_any_header_has_an_answer(query in "\\PC*", accept in "\\PC*|[a-z/*;,=\"q0-9. ]*") {
        if let Ok(asked) = RequestedFormat::of(&query, &accept) {
            prop_assert!(Format::ALL.contains(&asked.format));
        }
    }
}
