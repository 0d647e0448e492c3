//! The knobs that make introspection answer differently, or misbehave.
//!
//! They come from the query of the introspection URL, so that a provider's endpoint carries its own misbehaviour,
//! and from `PUT /knobs` for the whole server, which wins.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};

use crate::reply::{Close, Delivery, Reply};

/// The most that `gzip_bomb` expands to.
const LARGEST_BOMB: u64 = 1 << 30;

/// The values of the knobs; the default is a well-behaved authorization server.
pub struct Knobs {
    /// Whether the caller must authenticate.
    pub client_auth: bool,
    /// The dialect to answer in whatever `Accept` says.
    pub dialect: Option<Dialect>,
    /// The claim of the JSON answer that carries the JWT; none if empty.
    pub jwt_claim: String,
    /// The value of `Cache-Control`; the header is left out if `None`.
    pub cache_control: Option<HeaderValue>,
    /// How long to wait before answering.
    pub latency: Duration,
    /// How to say that a token is not active, and that every token is not.
    pub active_false: Option<Inactive>,
    status: Option<StatusCode>,
    retry_after: Option<HeaderValue>,
    redirect: Option<HeaderValue>,
    garbage: Option<Garbage>,
    oversized: Option<u64>,
    gzip_bomb: Option<u64>,
    delivery: Delivery,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            client_auth: true,
            dialect: None,
            jwt_claim: "jwt".to_owned(),
            cache_control: Some(HeaderValue::from_static("no-store")),
            latency: Duration::ZERO,
            active_false: None,
            status: None,
            retry_after: None,
            redirect: None,
            garbage: None,
            oversized: None,
            gzip_bomb: None,
            delivery: Delivery::default(),
        }
    }
}

/// The shape of an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// The body is the JWT.
    Jwt,
    /// RFC 7662 JSON that carries the JWT in a claim.
    Json,
}

impl Dialect {
    /// The content type of an answer.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Jwt => "application/jwt",
            Self::Json => "application/json",
        }
    }

    /// A byte that a body can be padded with and still look like what it was.
    fn fill(self) -> u8 {
        match self {
            Self::Jwt => b'A',
            Self::Json => b' ',
        }
    }
}

/// The ways to say that a token is not active.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Inactive {
    /// 200 with `{"active":false}`.
    Json,
    /// 204.
    NoContent,
    /// 204 with a body, which HTTP forbids.
    NoContentWithBody,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Garbage {
    Noise,
    CrLf,
    Space,
    TwoDotsShort,
    Empty,
}

/// Names and values of knobs as they were set.
pub type Settings = BTreeMap<String, String>;

/// The settings in a query.
pub fn from_query(query: &str) -> Settings {
    form_urlencoded::parse(query.as_bytes())
        .into_owned()
        .collect()
}

/// The settings in the JSON object of `PUT /knobs`: numbers and booleans stand for their texts.
pub fn from_json(body: &[u8]) -> Result<Settings, String> {
    let Ok(Value::Object(object)) = serde_json::from_slice(body) else {
        return Err("the body must be a JSON object".to_owned());
    };
    let text = |(name, value): (String, Value)| match value {
        Value::String(text) => Ok((name, text)),
        Value::Number(number) => Ok((name, number.to_string())),
        Value::Bool(flag) => Ok((name, if flag { "1" } else { "0" }.to_owned())),
        _ => Err(format!(
            "knob {name}: must be a string, a number or a boolean"
        )),
    };
    object.into_iter().map(text).collect()
}

impl Knobs {
    /// Reads the settings. An unknown name or value is an error: a test with a misspelt knob would prove nothing.
    pub fn parse(settings: &Settings) -> Result<Self, String> {
        let mut knobs = Self::default();
        for (name, value) in settings {
            knobs
                .set(name, value)
                .map_err(|must| format!("knob {name}: {must}"))?;
        }
        Ok(knobs)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), &'static str> {
        match name {
            "client_auth" => {
                self.client_auth = choice(value, &[("none", false), ("required", true)])?
            }
            "dialect" => {
                self.dialect = Some(choice(
                    value,
                    &[("jwt", Dialect::Jwt), ("json", Dialect::Json)],
                )?)
            }
            "jwt_claim" => self.jwt_claim = value.to_owned(),
            "cache_control" if value.is_empty() => self.cache_control = None,
            "cache_control" => self.cache_control = Some(header_value(value)?),
            "latency" => self.latency = milliseconds(value)?,
            "status" => self.status = Some(status(value)?),
            "retry_after" => self.retry_after = Some(header_value(value)?),
            "redirect" => self.redirect = Some(header_value(value)?),
            "garbage" => self.garbage = garbage(value)?,
            "oversized" => self.oversized = Some(number(value)?),
            "gzip_bomb" => {
                let size = number(value)?;
                if size > LARGEST_BOMB {
                    return Err("must be at most 1 GiB");
                }
                self.gzip_bomb = Some(size);
            }
            "active_false" => {
                let ways = [
                    ("json200", Inactive::Json),
                    ("204", Inactive::NoContent),
                    ("204_body", Inactive::NoContentWithBody),
                ];
                self.active_false = Some(choice(value, &ways)?);
            }
            "split" => match number(value)? {
                0 => return Err("must be at least 1"),
                size => self.delivery.split = Some(size),
            },
            "chunked" => self.delivery.chunked = flag(value)?,
            "no_length" => self.delivery.no_length = flag(value)?,
            "close" => {
                let places = [
                    ("before_headers", Close::BeforeHeaders),
                    ("mid_headers", Close::MidHeaders),
                    ("mid_body", Close::MidBody),
                ];
                self.delivery.close = Some(choice(value, &places)?);
            }
            "slow_drip" => self.delivery.drip = Some(milliseconds(value)?),
            "endless_headers" => self.delivery.endless_headers = flag(value)?,
            _ => return Err("no such knob"),
        }
        Ok(())
    }

    /// The answer that the knobs give in place of the server, to any caller and for any token.
    pub fn replacement(&self, dialect: Dialect) -> Option<Reply> {
        if let Some(location) = &self.redirect {
            return Some(Reply::empty(StatusCode::FOUND).with(LOCATION, location.clone()));
        }
        if let Some(status) = self.status {
            let code = if status.is_server_error() {
                "server_error"
            } else {
                "knob"
            };
            let mut reply = match status {
                StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED => Reply::empty(status),
                _ => Reply::json(
                    status,
                    &json!({ "error": code, "error_description": "set by the knob status" }),
                ),
            };
            if let Some(after) = &self.retry_after {
                reply = reply.with(RETRY_AFTER, after.clone());
            }
            return Some(reply);
        }
        match self.garbage? {
            Garbage::Noise => Some(Reply::new(
                StatusCode::OK,
                dialect.content_type(),
                &b"\x00\xff<noise>\x1b[31m{\"\x80"[..],
            )),
            Garbage::Empty => Some(Reply::new(
                StatusCode::OK,
                dialect.content_type(),
                Bytes::new(),
            )),
            Garbage::CrLf | Garbage::Space | Garbage::TwoDotsShort => None,
        }
    }

    /// The JWT as it is handed over: damaged, if a knob says so.
    pub fn hand_over(&self, jwt: &str) -> String {
        let broken_by = |bytes: &str| {
            let middle = jwt.len() / 2;
            format!("{}{bytes}{}", &jwt[..middle], &jwt[middle..])
        };
        match self.garbage {
            Some(Garbage::CrLf) => broken_by("\r\nX-Injected: yes\r\n"),
            Some(Garbage::Space) => broken_by(" "),
            Some(Garbage::TwoDotsShort) => jwt.replace('.', ""),
            Some(Garbage::Noise | Garbage::Empty) | None => jwt.to_owned(),
        }
    }

    /// Blows up the body and sets how the reply is delivered.
    pub async fn shape(&self, mut reply: Reply) -> std::io::Result<Reply> {
        let json = reply
            .headers
            .get(CONTENT_TYPE)
            .is_none_or(|value| value == Dialect::Json.content_type());
        let fill = if json { Dialect::Json } else { Dialect::Jwt }.fill();
        let empty = reply.status == StatusCode::NO_CONTENT;
        if let Some(length) = self.oversized.filter(|_| !empty) {
            reply.body = reply.body.padded(length, fill);
        }
        if let Some(length) = self.gzip_bomb.filter(|_| !empty) {
            let bomb = reply.body.padded(length, fill);
            reply.body = tokio::task::spawn_blocking(|| bomb.gzip()).await??;
            reply
                .headers
                .insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let body_after_204 = reply.delivery.body_after_204;
        reply.delivery = Delivery {
            body_after_204,
            ..self.delivery.clone()
        };
        Ok(reply)
    }
}

fn choice<T: Copy>(value: &str, choices: &[(&str, T)]) -> Result<T, &'static str> {
    let found = choices.iter().find(|(name, _)| *name == value);
    found.map(|(_, choice)| *choice).ok_or("no such value")
}

fn flag(value: &str) -> Result<bool, &'static str> {
    choice(value, &[("1", true), ("0", false)]).map_err(|_| "must be 1 or 0")
}

fn number<T: FromStr>(value: &str) -> Result<T, &'static str> {
    value.parse().map_err(|_| "must be a number")
}

fn milliseconds(value: &str) -> Result<Duration, &'static str> {
    number(value).map(Duration::from_millis)
}

fn header_value(value: &str) -> Result<HeaderValue, &'static str> {
    value.parse().map_err(|_| "must be a header value")
}

fn status(value: &str) -> Result<StatusCode, &'static str> {
    let must = "must be a status from 200 to 599";
    let status = value.parse::<StatusCode>().map_err(|_| must)?;
    if (200..600).contains(&status.as_u16()) {
        Ok(status)
    } else {
        Err(must)
    }
}

fn garbage(value: &str) -> Result<Option<Garbage>, &'static str> {
    let kinds = [
        ("0", None),
        ("1", Some(Garbage::Noise)),
        ("crlf", Some(Garbage::CrLf)),
        ("space", Some(Garbage::Space)),
        ("two_dots_short", Some(Garbage::TwoDotsShort)),
        ("empty", Some(Garbage::Empty)),
    ];
    choice(value, &kinds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_knob_or_value_is_an_error_that_names_it() {
        let message = |query| Knobs::parse(&from_query(query)).err().unwrap_or_default();
        assert_eq!(message("latencyy=5"), "knob latencyy: no such knob");
        assert_eq!(message("latency=soon"), "knob latency: must be a number");
        assert_eq!(
            message("status=99"),
            "knob status: must be a status from 200 to 599"
        );
        assert_eq!(
            message("status=600"),
            "knob status: must be a status from 200 to 599"
        );
        assert_eq!(message("split=0"), "knob split: must be at least 1");
        assert_eq!(message("chunked=yes"), "knob chunked: must be 1 or 0");
        assert_eq!(message("close=late"), "knob close: no such value");
        assert_eq!(
            message("redirect=a%0D%0Ab"),
            "knob redirect: must be a header value"
        );
        assert_eq!(
            message("gzip_bomb=1073741825"),
            "knob gzip_bomb: must be at most 1 GiB"
        );
        assert_eq!(
            message("latency=5&chunked=1&garbage=crlf&cache_control="),
            ""
        );
    }

    #[test]
    fn json_numbers_and_booleans_stand_for_their_texts() {
        let settings =
            from_json(br#"{"latency": 20, "chunked": true, "close": "mid_body"}"#).unwrap();
        let expected = [("chunked", "1"), ("close", "mid_body"), ("latency", "20")];
        assert!(
            settings
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()))
                .eq(expected)
        );
        assert!(from_json(b"[]").is_err());
        assert!(from_json(br#"{"latency": null}"#).is_err());
    }

    #[test]
    fn damaged_jwts_are_no_jwts() {
        let damaged = |query| {
            Knobs::parse(&from_query(query))
                .unwrap()
                .hand_over("aaaa.bbbb.cccc")
        };
        assert_eq!(
            damaged("garbage=crlf"),
            "aaaa.bb\r\nX-Injected: yes\r\nbb.cccc"
        );
        assert_eq!(damaged("garbage=space"), "aaaa.bb bb.cccc");
        assert_eq!(damaged("garbage=two_dots_short"), "aaaabbbbcccc");
        assert_eq!(damaged("garbage=0"), "aaaa.bbbb.cccc");
    }
}
