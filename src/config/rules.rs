//! Types of settings: how the text of a value is read, and which values are valid.
//!
//! A value is read once, into its type. A value that was set through a typed field of [`Config`](super::Config) is
//! checked by the same rule when a provider is built.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;
use url::Url;

use super::SslProtocols;
use super::transport::{self, Proxy};
use super::url::{Issuer, check_endpoint, check_endpoints, endpoint_for, endpoints};
use crate::Token;
use crate::oauth::{Endpoint, Purpose};
use crate::secret::Secret;
use crate::values::{self, quoted};

const DAYS: u64 = 86_400;

/// The reason why a value is invalid, and how to write it: the rest of a sentence that begins with the key and the
/// value.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub(crate) struct Invalid(String);

impl From<String> for Invalid {
    fn from(text: String) -> Self {
        Invalid(text)
    }
}

impl From<&str> for Invalid {
    fn from(text: &str) -> Self {
        Invalid(text.to_owned())
    }
}

/// The type of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SettingType {
    /// Text.
    Text,
    /// Text that is never shown.
    Secret,
    /// Words, separated by spaces.
    Words,
    /// The path of a file.
    Path,
    /// The paths of files, separated by spaces.
    Paths,
    /// A URL.
    Url,
    /// URLs, separated by spaces.
    Urls,
    /// `on` or `off`.
    Switch,
    /// A time: `500ms`, `5s`, `1h 30m`.
    Time,
    /// A size in bytes: `64k`, `10m`.
    Size,
    /// A number.
    Number,
    /// A percentage.
    Percent,
    /// One of a few words.
    Choice,
}

/// How the text of a setting's value is read and checked.
pub(super) trait Rule {
    /// The type of the value in Rust.
    type Value;
    /// The type of the setting.
    const TYPE: SettingType;

    /// The words of a [`SettingType::Choice`].
    fn choices(&self) -> Vec<&'static str> {
        Vec::new()
    }

    /// Reads the text of a value.
    fn read(&self, text: &str) -> Result<Self::Value, Invalid>;

    /// Checks a value that was set directly. An error contains the value, where it may be shown.
    fn check(&self, value: &Self::Value) -> Result<(), (String, Invalid)>;
}

/// Any text without control characters.
pub(super) struct Text;

impl Rule for Text {
    type Value = String;
    const TYPE: SettingType = SettingType::Text;

    fn read(&self, text: &str) -> Result<String, Invalid> {
        self::text(text).map(str::to_owned)
    }

    fn check(&self, value: &String) -> Result<(), (String, Invalid)> {
        self::text(value)
            .map(drop)
            .map_err(|why| (quoted(value), why))
    }
}

/// A secret whose whole text is checked by a function.
pub(super) struct Hidden(pub fn(&str) -> Result<&str, Invalid>);

impl Rule for Hidden {
    type Value = Secret;
    const TYPE: SettingType = SettingType::Secret;

    fn read(&self, text: &str) -> Result<Secret, Invalid> {
        (self.0)(text).map(Secret::new)
    }

    fn check(&self, value: &Secret) -> Result<(), (String, Invalid)> {
        (self.0)(value.expose()).map(drop).map_err(unshown)
    }
}

/// Words, each of which is checked by a function.
pub(super) struct Words(pub fn(&str) -> Result<Vec<String>, Invalid>);

impl Rule for Words {
    type Value = Vec<String>;
    const TYPE: SettingType = SettingType::Words;

    fn read(&self, text: &str) -> Result<Vec<String>, Invalid> {
        (self.0)(text)
    }

    fn check(&self, value: &Vec<String>) -> Result<(), (String, Invalid)> {
        let text = value.join(" ");
        let why = match (self.0)(&text) {
            Err(why) => why,
            // Two lists with the same text must be the same list.
            Ok(_) if !text.split_ascii_whitespace().eq(value) => NOT_WORDS.into(),
            Ok(_) => return Ok(()),
        };
        Err((quoted(&text), why))
    }
}

/// A file.
pub(super) struct Path;

impl Rule for Path {
    type Value = PathBuf;
    const TYPE: SettingType = SettingType::Path;

    fn read(&self, text: &str) -> Result<PathBuf, Invalid> {
        path(text)
    }

    fn check(&self, value: &PathBuf) -> Result<(), (String, Invalid)> {
        match value.as_os_str().is_empty() {
            true => Err(("\"\"".to_owned(), EMPTY_PATH.into())),
            false => Ok(()),
        }
    }
}

/// One file or more, up to a maximum.
pub(super) struct Paths(pub usize);

impl Rule for Paths {
    type Value = Vec<PathBuf>;
    const TYPE: SettingType = SettingType::Paths;

    fn read(&self, text: &str) -> Result<Vec<PathBuf>, Invalid> {
        let paths = text.split_ascii_whitespace().map(path);
        let paths = paths.collect::<Result<Vec<_>, _>>()?;
        if paths.is_empty() {
            return Err("is empty: name a PEM file, or leave it out".into());
        }
        self.check(&paths).map_err(|(_, why)| why)?;
        Ok(paths)
    }

    fn check(&self, value: &Vec<PathBuf>) -> Result<(), (String, Invalid)> {
        let refuse = |why: Invalid| Err((format!("{value:?}"), why));
        if value.len() > self.0 {
            return refuse(format!("names more than {} files: remove some", self.0).into());
        }
        if value.iter().any(|path| path.as_os_str().is_empty()) {
            return refuse("has an empty name in it: name files".into());
        }
        Ok(())
    }
}

/// The issuer identifier of a server (RFC 8414 §2).
pub(super) struct IssuerUrl;

impl Rule for IssuerUrl {
    type Value = Issuer;
    const TYPE: SettingType = SettingType::Url;

    fn read(&self, text: &str) -> Result<Issuer, Invalid> {
        Issuer::parse(text)
    }

    fn check(&self, _: &Issuer) -> Result<(), (String, Invalid)> {
        Ok(())
    }
}

/// An endpoint.
pub(super) struct EndpointUrl(pub Purpose);

impl Rule for EndpointUrl {
    type Value = Endpoint;
    const TYPE: SettingType = SettingType::Url;

    fn read(&self, text: &str) -> Result<Endpoint, Invalid> {
        endpoint_for(self.0, text)
    }

    fn check(&self, value: &Endpoint) -> Result<(), (String, Invalid)> {
        check_endpoint(self.0, value).map_err(unshown)
    }
}

/// The introspection endpoint, at one address or more.
pub(super) struct EndpointUrls;

impl Rule for EndpointUrls {
    type Value = Vec<Endpoint>;
    const TYPE: SettingType = SettingType::Urls;

    fn read(&self, text: &str) -> Result<Vec<Endpoint>, Invalid> {
        endpoints(text)
    }

    fn check(&self, value: &Vec<Endpoint>) -> Result<(), (String, Invalid)> {
        check_endpoints(value).map_err(unshown)
    }
}

/// A forward proxy.
pub(super) struct ProxyUrl;

impl Rule for ProxyUrl {
    type Value = Proxy;
    // It may hold a password.
    const TYPE: SettingType = SettingType::Secret;

    fn read(&self, text: &str) -> Result<Proxy, Invalid> {
        transport::proxy(text)
    }

    fn check(&self, _: &Proxy) -> Result<(), (String, Invalid)> {
        Ok(())
    }
}

/// A name for TLS.
pub(super) struct ServerName;

impl Rule for ServerName {
    type Value = String;
    const TYPE: SettingType = SettingType::Text;

    fn read(&self, text: &str) -> Result<String, Invalid> {
        transport::server_name(text)
    }

    fn check(&self, value: &String) -> Result<(), (String, Invalid)> {
        self.read(value)
            .map(drop)
            .map_err(|why| (quoted(value), why))
    }
}

/// The versions of TLS.
pub(super) struct TlsVersions;

impl Rule for TlsVersions {
    type Value = SslProtocols;
    const TYPE: SettingType = SettingType::Words;

    fn read(&self, text: &str) -> Result<SslProtocols, Invalid> {
        transport::ssl_protocols(text)
    }

    fn check(&self, _: &SslProtocols) -> Result<(), (String, Invalid)> {
        Ok(())
    }
}

/// `on` or `off`.
pub(super) struct Switch;

impl Rule for Switch {
    type Value = bool;
    const TYPE: SettingType = SettingType::Switch;

    fn read(&self, text: &str) -> Result<bool, Invalid> {
        values::switch(text).ok_or_else(|| values::NOT_A_SWITCH.into())
    }

    fn check(&self, _: &bool) -> Result<(), (String, Invalid)> {
        Ok(())
    }
}

/// One of the words of an enum.
pub(super) struct Choice<T: 'static>(pub &'static [T]);

impl<T: Copy + Into<&'static str>> Rule for Choice<T> {
    type Value = T;
    const TYPE: SettingType = SettingType::Choice;

    fn choices(&self) -> Vec<&'static str> {
        self.0.iter().map(|choice| (*choice).into()).collect()
    }

    fn read(&self, text: &str) -> Result<T, Invalid> {
        if let Some(choice) = self.0.iter().find(|choice| (**choice).into() == text) {
            return Ok(*choice);
        }
        let names = self.choices();
        // There are at least two.
        let (last, others) = names.split_last().unwrap_or((&"", &[]));
        Err(format!(
            "is not one of the choices: write {} or {last}",
            others.join(", ")
        )
        .into())
    }

    fn check(&self, value: &T) -> Result<(), (String, Invalid)> {
        let name: &str = (*value).into();
        self.read(name).map(drop).map_err(|why| (quoted(name), why))
    }
}

/// A time within a range.
pub(super) struct Time(pub RangeInclusive<Duration>);

impl Rule for Time {
    type Value = Duration;
    const TYPE: SettingType = SettingType::Time;

    fn read(&self, text: &str) -> Result<Duration, Invalid> {
        let value = values::time(text).ok_or(values::NOT_A_TIME)?;
        within(&self.0, value, span)?;
        Ok(value)
    }

    fn check(&self, value: &Duration) -> Result<(), (String, Invalid)> {
        within(&self.0, *value, span).map_err(|why| (format!("{value:?}"), why))
    }
}

/// A size within a range, in bytes.
pub(super) struct Size(pub RangeInclusive<u64>);

impl Rule for Size {
    type Value = usize;
    const TYPE: SettingType = SettingType::Size;

    fn read(&self, text: &str) -> Result<usize, Invalid> {
        let value = values::size(text).ok_or(values::NOT_A_SIZE)?;
        within(&self.0, value, bytes)?;
        usize::try_from(value).map_err(|_| TOO_LARGE.into())
    }

    fn check(&self, value: &usize) -> Result<(), (String, Invalid)> {
        within(&self.0, *value as u64, |bound| bound.to_string())
            .map_err(|why| (value.to_string(), why))
    }
}

/// A number within a range.
pub(super) struct Number(pub RangeInclusive<u64>);

impl Rule for Number {
    type Value = usize;
    const TYPE: SettingType = SettingType::Number;

    fn read(&self, text: &str) -> Result<usize, Invalid> {
        let value = values::count(text).ok_or_else(|| {
            format!(
                "is not a number: write it as digits, {} to {}",
                self.0.start(),
                self.0.end()
            )
        })?;
        within(&self.0, value, |bound| bound.to_string())?;
        usize::try_from(value).map_err(|_| TOO_LARGE.into())
    }

    fn check(&self, value: &usize) -> Result<(), (String, Invalid)> {
        within(&self.0, *value as u64, |bound| bound.to_string())
            .map_err(|why| (value.to_string(), why))
    }
}

/// A number in a range that fits in a `u32`.
pub(super) struct Few(pub Number);

impl Rule for Few {
    type Value = u32;
    const TYPE: SettingType = SettingType::Number;

    fn read(&self, text: &str) -> Result<u32, Invalid> {
        // The range fits.
        self.0.read(text).map(|value| value as u32)
    }

    fn check(&self, value: &u32) -> Result<(), (String, Invalid)> {
        self.0.check(&(*value as usize))
    }
}

/// A percentage, with or without the percent sign.
pub(super) struct Percent(pub Few);

impl Rule for Percent {
    type Value = u32;
    const TYPE: SettingType = SettingType::Percent;

    fn read(&self, text: &str) -> Result<u32, Invalid> {
        self.0.read(text.strip_suffix('%').unwrap_or(text))
    }

    fn check(&self, value: &u32) -> Result<(), (String, Invalid)> {
        self.0.check(value)
    }
}

const EMPTY_PATH: &str = "is empty: name a file, or leave it out";
const NOT_WORDS: &str = "has a member that is empty or holds a space: write one word in each";
const TOO_LARGE: &str = "is more than this machine can address";

fn path(value: &str) -> Result<PathBuf, Invalid> {
    if value.is_empty() {
        return Err(EMPTY_PATH.into());
    }
    if value.contains('\0') {
        return Err("has a zero byte in it, which no file name has".into());
    }
    Ok(value.into())
}

/// Text that may be an identifier or a secret.
pub(super) fn text(value: &str) -> Result<&str, Invalid> {
    if value.is_empty() {
        return Err("is empty: set it, or leave it out".into());
    }
    if value.chars().any(char::is_control) {
        return Err("has a line break or another control character in it: remove that".into());
    }
    Ok(value)
}

/// A static bearer token, in the syntax of the header in RFC 6750 §2.1.
pub(super) fn bearer_token(value: &str) -> Result<&str, Invalid> {
    match Token::parse(value.as_bytes()) {
        Ok(token) => Ok(token.expose()),
        Err(error) => Err(format!(
            "is not a bearer token: {error}; set it to the token alone, without \"Bearer\""
        )
        .into()),
    }
}

/// Any list of words.
pub(super) fn words(value: &str) -> Result<Vec<String>, Invalid> {
    let words: Vec<_> = text(value)?
        .split_ascii_whitespace()
        .map(str::to_owned)
        .collect();
    if words.is_empty() {
        return Err("is empty: set it, or leave it out".into());
    }
    Ok(words)
}

/// The names of claims that may hold the JWT, each once.
pub(super) fn jwt_claims(value: &str) -> Result<Vec<String>, Invalid> {
    let mut names: Vec<String> = Vec::new();
    for name in value.split_ascii_whitespace() {
        if name.chars().any(char::is_control) {
            return Err("has a control character in it: remove that".into());
        }
        if name == "active" {
            return Err(
                "names the member that says whether the token is active: name the one that holds the JWT"
                    .into(),
            );
        }
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
    }
    if names.is_empty() {
        return Err("is empty: name the claim that holds the JWT, or leave it out".into());
    }
    Ok(names)
}

/// Names of claims that are included in minted JWTs or excluded from them.
pub(super) fn claim_names(value: &str) -> Result<Vec<String>, Invalid> {
    let names = words(value)?;
    if names.iter().any(|name| name == "active") {
        return Err(
            "names active, which is no claim of the token and never minted: remove that".into(),
        );
    }
    Ok(names)
}

/// The resources where a token is to be used (RFC 8707 §2): absolute URIs.
pub(super) fn resources(value: &str) -> Result<Vec<String>, Invalid> {
    let resources = words(value)?;
    for resource in &resources {
        match Url::parse(resource) {
            Ok(url) if url.fragment().is_none() => {}
            Ok(_) => return Err("has a fragment (#…), which no resource has: remove it".into()),
            Err(_) => {
                return Err("is not an absolute URI: write it as https://api.example.com/".into());
            }
        }
    }
    Ok(resources)
}

/// An error about a value that is never shown.
fn unshown(why: Invalid) -> (String, Invalid) {
    (String::new(), why)
}

fn within<T: PartialOrd + Copy>(
    range: &RangeInclusive<T>,
    value: T,
    shown: impl Fn(T) -> String,
) -> Result<(), Invalid> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(format!(
        "is out of range: it must be {} to {}",
        shown(*range.start()),
        shown(*range.end())
    )
    .into())
}

/// A time in days, seconds or milliseconds, or zero, as nginx writes it: for the bounds in messages.
fn span(time: Duration) -> String {
    match time.as_secs() {
        0 if time.is_zero() => String::from("0"),
        0 => format!("{}ms", time.as_millis()),
        seconds if seconds < DAYS => format!("{seconds}s"),
        seconds => format!("{}d", seconds / DAYS),
    }
}

/// A size in the largest unit that expresses it exactly.
fn bytes(size: u64) -> String {
    for (shift, unit) in [(30, "g"), (20, "m"), (10, "k")] {
        if size != 0 && size.trailing_zeros() >= shift {
            return format!("{}{unit}", size >> shift);
        }
    }
    size.to_string()
}
