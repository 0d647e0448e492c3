//! Fuzz target `status`: the requested format of the status.

use crate::gateway::status::{Format, RequestedFormat};

/// A query in the first line, and the value of `Accept`.
pub fn status(input: &[u8]) {
    let Some((query, accept)) = std::str::from_utf8(input)
        .ok()
        .and_then(|text| text.split_once('\n'))
    else {
        return;
    };
    let words: Vec<_> = form_urlencoded::parse(query.as_bytes())
        .filter(|(name, _)| name == "format")
        .map(|(_, value)| value)
        .collect();
    let known = |word: &str| {
        Format::ALL
            .iter()
            .copied()
            .find(|format| format.as_str() == word)
    };
    let Ok(asked) = RequestedFormat::of(query, accept) else {
        assert!(words.iter().any(|word| known(word).is_none()));
        return;
    };
    assert!(words.iter().all(|word| known(word).is_some()));
    if let Some(last) = words.last() {
        assert_eq!(
            Some(asked.format),
            known(last),
            "the query goes before the header"
        );
        return;
    }
    // The format is one that the request has named.
    let accept = accept.to_ascii_lowercase();
    let named = match asked.format {
        Format::Prometheus => return,
        Format::OpenMetrics => "openmetrics-text",
        Format::Json => "json",
        Format::Html => "html",
    };
    assert!(accept.contains(named) || accept.contains('*'));
}
