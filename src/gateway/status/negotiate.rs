//! Content negotiation: the format that the query names, else the format that the client prefers (RFC 9110 §12.5.1).

use mime::Mime;
use strum::{EnumString, IntoStaticStr, VariantArray};

/// The format of a rendered snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, EnumString, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "lowercase")]
pub enum Format {
    /// Prometheus' text format 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// JSON.
    Json,
    /// A page for people.
    Html,
}

impl Format {
    /// All formats. Of formats that a client prefers equally, it gets the first one.
    pub const ALL: &'static [Format] = Self::VARIANTS;

    /// The name of the format in a query.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The media type, and its supported versions, if it has versions. A client that knows OpenMetrics 0.0.1 can read
    /// 1.0.0.
    fn media_type(self) -> (&'static str, &'static str, &'static [&'static str]) {
        match self {
            Format::Prometheus => ("text", "plain", &["0.0.4"]),
            Format::OpenMetrics => ("application", "openmetrics-text", &["1.0.0", "0.0.1"]),
            Format::Json => ("application", "json", &[]),
            Format::Html => ("text", "html", &[]),
        }
    }

    /// How specifically a media range matches this format; `None` if it does not match.
    fn matched_by(self, range: &Mime) -> Option<u8> {
        let (main, sub, versions) = self.media_type();
        if range.type_() == mime::STAR {
            return (range.subtype() == mime::STAR).then_some(0);
        }
        if range.type_() != main {
            return None;
        }
        if range.subtype() == mime::STAR {
            return Some(1);
        }
        // `subtype` does not include the suffix.
        if range.subtype() != sub || range.suffix().is_some() {
            return None;
        }
        match range.get_param("version") {
            None => Some(2),
            Some(version) => versions.iter().any(|&known| version == known).then_some(3),
        }
    }
}

/// The requested format and options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestedFormat {
    /// The format.
    pub format: Format,
    /// Whether the page reloads itself every few seconds.
    pub refresh: bool,
}

/// The error for a query that names an unknown format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("format is prometheus, openmetrics, json or html")]
pub struct UnknownFormat;

impl RequestedFormat {
    /// Reads the query (without its question mark) and the values of `Accept`, joined by commas. A client that names no
    /// format, or accepts none of them, gets Prometheus.
    ///
    /// # Errors
    /// When the query names an unknown format.
    pub fn of(query: &str, accept: &str) -> Result<Self, UnknownFormat> {
        let mut named = None;
        let mut refresh = true;
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "format" => {
                    named = Some(value.parse().map_err(|_| UnknownFormat)?);
                }
                "refresh" => refresh = value != "off",
                _ => {}
            }
        }
        Ok(RequestedFormat {
            format: named.unwrap_or_else(|| preferred(accept)),
            refresh,
        })
    }
}

/// The format that the client prefers.
fn preferred(accept: &str) -> Format {
    let ranges: Vec<(Mime, u16)> = elements(accept).filter_map(range).collect();
    let mut best = (Format::Prometheus, 0);
    for &format in Format::ALL {
        // The most specific range that matches a format counts.
        let quality = ranges
            .iter()
            .filter_map(|(range, quality)| Some((format.matched_by(range)?, *quality)))
            .max()
            .map_or(0, |(_, quality)| quality);
        if quality > best.1 {
            best = (format, quality);
        }
    }
    best.0
}

/// The elements of a list (RFC 9110 §5.6.1). An element may contain commas in quotes.
fn elements(list: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let mut escaped = false;
    list.split(move |character| {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' => return !quoted,
            _ => {}
        }
        false
    })
    .map(str::trim)
}

/// A media range and its weight, in thousandths.
fn range(element: &str) -> Option<(Mime, u16)> {
    let range: Mime = element.parse().ok()?;
    let quality = match range.get_param("q") {
        None => 1000,
        Some(weight) => weight
            .as_str()
            .parse::<f32>()
            .ok()
            .filter(|weight| (0.0..=1.0).contains(weight))
            .map(|weight| (weight * 1000.0) as u16)?,
    };
    Some((range, quality))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(query: &str, accept: &str) -> Format {
        RequestedFormat::of(query, accept).unwrap().format
    }

    #[test]
    fn the_query_is_heard_before_the_header_and_knows_four_formats() {
        for &known in Format::ALL {
            let query = format!("a=b&format={}&c", known.as_str());
            assert_eq!(format(&query, "text/html"), known);
        }
        assert_eq!(format("format=js%6fn", ""), Format::Json);
        for unknown in [
            "format=xml",
            "format=",
            "format",
            "format=JSON",
            "format=json&format=x",
        ] {
            assert_eq!(
                RequestedFormat::of(unknown, "text/html"),
                Err(UnknownFormat),
                "{unknown}"
            );
        }
        assert_eq!(format("formats=xml", ""), Format::Prometheus);
    }

    #[test]
    fn what_browsers_scrapers_and_tools_send_gets_what_they_read() {
        let browser =
            "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8";
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
            application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,\
            text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        let older = "text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        let protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;\
            q=0.7,text/plain;version=0.0.4;q=0.3";
        for (accept, wanted) in [
            (browser, Format::Html),
            (prometheus, Format::OpenMetrics),
            (older, Format::Prometheus),
            (protobuf, Format::Prometheus),
            ("*/*", Format::Prometheus),
            ("", Format::Prometheus),
            ("application/json", Format::Json),
            ("application/json, text/plain, */*", Format::Prometheus),
            ("APPLICATION/JSON;Q=1", Format::Json),
            ("text/plain;version=9.9, text/html;q=0.1", Format::Html),
            ("text/*;q=0.5, text/plain;q=0.1", Format::Html),
            ("application/*", Format::OpenMetrics),
            (
                "text/html;level=\"a,b\", application/json;q=0.9",
                Format::Html,
            ),
            (
                "*/*, text/plain;q=0, application/openmetrics-text;q=0",
                Format::Json,
            ),
            ("image/png", Format::Prometheus),
            ("application/json+xml, text/html;q=0.2", Format::Html),
            ("text/html;q=2, application/json;q=0.1", Format::Json),
            ("text/html;q=, application/json;q=0.1", Format::Json),
            (",,;;q=1,\"", Format::Prometheus),
            ("\"\\\",text/html", Format::Prometheus),
        ] {
            assert_eq!(format("", accept), wanted, "{accept}");
        }
    }

    #[test]
    fn a_page_can_be_asked_to_stand_still() {
        assert!(RequestedFormat::of("", "").unwrap().refresh);
        assert!(
            !RequestedFormat::of("refresh=off", "text/html")
                .unwrap()
                .refresh
        );
    }
}
