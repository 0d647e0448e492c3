//! Requirements on claims.

use std::fmt::{self, Write};

use regex::bytes::{Regex, RegexBuilder};
use serde_json::Value;

use super::{ClaimPath, PolicyError};
use crate::jwt::Claims;

/// The expected value of a claim.
#[derive(Debug, Clone)]
pub enum Expected {
    /// A text: the claim must equal it byte for byte.
    Literal(Box<str>),
    /// A regular expression: the claim must match it.
    Pattern(Pattern),
    /// The host's value with this number at the time of the request, for example an nginx variable. A value that is
    /// absent, empty or not UTF-8, or that has a NUL or a line break, equals no claim.
    Slot(usize),
}

/// A regular expression that matches in time linear in the length of the text, without backtracking. It matches
/// anywhere in the text unless it has anchors. `\d`, `\w` and case are those of ASCII. `$` is the end of the text:
/// nothing may follow, not even a line break.
#[derive(Debug, Clone)]
pub struct Pattern(Regex);

/// The most memory for a compiled regular expression, in bytes, and as much again for its matching.
const PATTERN_SIZE: usize = 1 << 20;

impl Pattern {
    /// Parses a regular expression, which is case-insensitive or not.
    ///
    /// # Errors
    /// [`PolicyError`] when it is invalid, has look-around or backreferences (which need backtracking), or is too
    /// large.
    pub fn parse(text: &str, ignore_case: bool) -> Result<Self, PolicyError> {
        if text.is_empty() {
            return Err(PolicyError::plain(
                "a regular expression is missing after \"~\"",
            ));
        }
        RegexBuilder::new(text)
            // An operator who writes `\d` or ignores case expects ASCII: "K" does not match the Kelvin sign.
            .unicode(false)
            .case_insensitive(ignore_case)
            .size_limit(PATTERN_SIZE)
            .dfa_size_limit(PATTERN_SIZE)
            .build()
            .map(Pattern)
            .map_err(|error| {
                let text_of_it = error.to_string();
                // The last of the several lines of the error states the problem.
                let why = text_of_it.lines().last().unwrap_or_default().trim();
                PolicyError::new(
                    text,
                    &format!(
                        "is not a regular expression: {}",
                        why.trim_start_matches("error: ")
                    ),
                )
            })
    }

    fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text.as_bytes())
    }
}

impl Expected {
    /// Parses a value in the syntax of nginx's `if` and `location`: `~regex`, `~*regex` for a case-insensitive one, or
    /// the text itself. A text that begins with `~` is written as a regular expression: `~^~text$`.
    ///
    /// # Errors
    /// [`PolicyError`] when it is empty, has a control character, begins with `!~`, or is not a regular expression.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        if text.is_empty() {
            return Err(PolicyError::plain(
                "a value is empty: leave it out to ask only that the claim is there",
            ));
        }
        if text.contains(char::is_control) {
            return Err(PolicyError::new(text, "has a control character"));
        }
        if text.starts_with("!~") {
            return Err(PolicyError::new(
                text,
                "says what must not be: only what must be can be required",
            ));
        }
        if let Some(pattern) = text.strip_prefix("~*") {
            return Pattern::parse(pattern, true).map(Expected::Pattern);
        }
        if let Some(pattern) = text.strip_prefix('~') {
            return Pattern::parse(pattern, false).map(Expected::Pattern);
        }
        Ok(Expected::Literal(text.into()))
    }
}

/// A claim, and the values of which it must have one.
#[derive(Debug)]
pub(super) struct Requirement {
    path: ClaimPath,
    fixed: Vec<Expected>,
    slots: Vec<usize>,
    /// `claim:` and the path, as one word.
    reason: Box<str>,
}

impl Requirement {
    /// The path of the claim.
    pub(super) fn path(&self) -> &ClaimPath {
        &self.path
    }

    pub(super) fn new(path: ClaimPath, values: Vec<Expected>) -> Self {
        let mut reason = String::from("claim:");
        reason.extend(path.as_str().chars().map(|char| match char {
            // The text is used in logs and headers.
            '"' | '\\' => '_',
            char if char.is_ascii_graphic() => char,
            _ => '_',
        }));
        let mut fixed = Vec::new();
        let mut slots = Vec::new();
        for value in values {
            match value {
                Expected::Slot(slot) => slots.push(slot),
                value => fixed.push(value),
            }
        }
        Requirement {
            path,
            fixed,
            slots,
            reason: reason.into(),
        }
    }

    pub(super) fn reason(&self) -> &str {
        &self.reason
    }

    /// Whether the token's claim is as required.
    pub(super) fn holds<'v>(
        &self,
        claims: &Claims,
        values: &mut dyn FnMut(usize) -> Option<&'v [u8]>,
    ) -> bool {
        if self.fixed.is_empty() && self.slots.is_empty() {
            return self.path.any(claims, &mut |value, _| says_something(value));
        }
        let fixed = &mut |text: &str| {
            self.fixed.iter().any(|expected| match expected {
                Expected::Literal(literal) => **literal == *text,
                Expected::Pattern(pattern) => pattern.is_match(text),
                Expected::Slot(_) => false,
            })
        };
        if !self.fixed.is_empty()
            && self
                .path
                .any(claims, &mut |value, _| any_text(value, fixed))
        {
            return true;
        }
        // The host is asked at most once for each slot, and only if the value matters.
        self.slots.iter().any(|&slot| {
            values(slot).and_then(comparable).is_some_and(|wanted| {
                let wanted = &mut |text: &str| text == wanted;
                self.path
                    .any(claims, &mut |value, _| any_text(value, wanted))
            })
        })
    }
}

/// A value of the host that a claim can equal.
fn comparable(value: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(value).ok()?;
    (!text.is_empty() && !text.contains(['\0', '\r', '\n'])).then_some(text)
}

/// Whether a claim without expected values counts as present: `null`, `false`, and empty values do not. Any number
/// does, also 0.
fn says_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(yes) => *yes,
        Value::Number(_) => true,
        Value::String(text) => !text.is_empty(),
        Value::Array(elements) => elements.iter().any(says_something),
        Value::Object(members) => !members.is_empty(),
    }
}

/// Whether `test` holds for the text of a value, or of an element of a list.
fn any_text(value: &Value, test: &mut dyn FnMut(&str) -> bool) -> bool {
    match value {
        Value::String(text) => test(text),
        Value::Bool(yes) => test(if *yes { "true" } else { "false" }),
        Value::Number(number) => {
            let mut text = Short::default();
            write!(text, "{number}").is_ok() && test(text.as_str())
        }
        Value::Array(elements) => elements.iter().any(|element| any_text(element, test)),
        Value::Null | Value::Object(_) => false,
    }
}

/// A buffer for the text of a number, without allocation.
#[derive(Default)]
struct Short {
    bytes: [u8; 32],
    length: usize,
}

impl Short {
    fn as_str(&self) -> &str {
        // Only whole strings were written.
        std::str::from_utf8(&self.bytes[..self.length]).unwrap_or_default()
    }
}

impl Write for Short {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.bytes
            .get_mut(self.length..self.length + text.len())
            .ok_or(fmt::Error)?
            .copy_from_slice(text.as_bytes());
        self.length += text.len();
        Ok(())
    }
}
