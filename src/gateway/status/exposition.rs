//! Text formats for the exposition of metrics: Prometheus' text format 0.0.4, and OpenMetrics 1.0.
//!
//! Written by hand: the two formats differ in a handful of lines. Libraries for them store the numbers themselves,
//! which does not fit: our numbers are stored in shared memory.

use std::fmt::{Display, Write as _};

/// The text format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Prometheus,
    OpenMetrics,
}

/// The type of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MetricType {
    Counter,
    Gauge,
    Histogram,
    /// A gauge that is always 1, with the information in its labels.
    Info,
}

/// A metric.
#[derive(Debug, Clone, Copy)]
pub(super) struct Metric {
    /// The name without the suffix of its type.
    pub(super) name: &'static str,
    pub(super) kind: MetricType,
    /// The unit, if there is one. The name ends in it.
    pub(super) unit: &'static str,
    pub(super) help: &'static str,
}

pub(super) type Labels<'a> = &'a [(&'a str, &'a str)];

/// The text of an exposition, as it is written.
pub(super) struct Exposition {
    dialect: Dialect,
    text: String,
}

impl Exposition {
    pub(super) fn new(dialect: Dialect) -> Self {
        Exposition {
            dialect,
            text: String::with_capacity(16 << 10),
        }
    }

    /// Begins a metric. All its samples must follow at once.
    pub(super) fn begin(&mut self, metric: &Metric) {
        let name = metric.name;
        let (suffix, kind) = match (self.dialect, metric.kind) {
            (Dialect::Prometheus, MetricType::Counter) => ("_total", "counter"),
            (Dialect::Prometheus, MetricType::Info) => ("_info", "gauge"),
            (Dialect::OpenMetrics, MetricType::Counter) => ("", "counter"),
            (Dialect::OpenMetrics, MetricType::Info) => ("", "info"),
            (_, MetricType::Gauge) => ("", "gauge"),
            (_, MetricType::Histogram) => ("", "histogram"),
        };
        let help = metric.help;
        let _ = writeln!(self.text, "# HELP {name}{suffix} {help}");
        let _ = writeln!(self.text, "# TYPE {name}{suffix} {kind}");
        if self.dialect == Dialect::OpenMetrics && !metric.unit.is_empty() {
            let _ = writeln!(self.text, "# UNIT {name} {}", metric.unit);
        }
    }

    /// A sample of a counter, a gauge or an info.
    pub(super) fn sample(&mut self, metric: &Metric, labels: Labels<'_>, value: impl Display) {
        let suffix = match metric.kind {
            MetricType::Counter => "_total",
            MetricType::Info => "_info",
            MetricType::Gauge | MetricType::Histogram => "",
        };
        self.line(metric.name, suffix, labels, None, value);
    }

    /// A histogram: for each bound the number of values up to it, and the sum of all values. The last bound is
    /// infinite.
    pub(super) fn histogram(
        &mut self,
        metric: &Metric,
        labels: Labels<'_>,
        buckets: &[(Option<f64>, u64)],
        sum: f64,
    ) {
        let mut all = 0;
        for &(bound, count) in buckets {
            // OpenMetrics requires a canonical float.
            let bound = bound.map_or("+Inf".to_owned(), |bound| format!("{bound:?}"));
            self.line(metric.name, "_bucket", labels, Some(&bound), count);
            all = count;
        }
        self.line(metric.name, "_sum", labels, None, sum);
        self.line(metric.name, "_count", labels, None, all);
    }

    pub(super) fn end(mut self) -> String {
        if self.dialect == Dialect::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }

    fn line(
        &mut self,
        name: &str,
        suffix: &str,
        labels: Labels<'_>,
        bound: Option<&str>,
        value: impl Display,
    ) {
        let _ = write!(self.text, "{name}{suffix}");
        let all = labels
            .iter()
            .copied()
            .chain(bound.map(|bound| ("le", bound)));
        let mut before = '{';
        for (label, value) in all {
            let _ = write!(self.text, "{before}{label}=\"");
            self.escaped(value);
            self.text.push('"');
            before = ',';
        }
        if before == ',' {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }

    fn escaped(&mut self, value: &str) {
        for character in value.chars() {
            match character {
                '\\' => self.text.push_str("\\\\"),
                '"' => self.text.push_str("\\\""),
                '\n' => self.text.push_str("\\n"),
                other => self.text.push(other),
            }
        }
    }
}
