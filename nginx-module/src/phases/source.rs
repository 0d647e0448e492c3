//! How a token comes in: what a request presents in the places that its location looks at, and how it is taken out of
//! them.
//!
//! What held a token in a cookie, a header or the query is taken out as soon as it has been read, whatever becomes of the
//! request: nobody after this finds it there, be it the API, a variable or the access log. The token itself stays in the
//! request's memory, for us ([`State::token`]). `Authorization` is where the JWT goes, so that it stays until then.

use std::borrow::Cow;
use std::ptr::NonNull;

use phantom_token::Token;
use phantom_token::gateway::source::{Form, decode, trim, values, without};
use phantom_token::token::{Credentials, Scheme};

use crate::conf::forget;
use crate::conf::{LocationConf, Source};
use crate::nginx::evaluated::Secrets;
use crate::nginx::headers::{self, Header};
use crate::nginx::request::{Authorization, Request};
use crate::phases::respond;
use crate::process::state::State;

/// What was found.
#[derive(Default)]
struct Found {
    /// The places that hold something.
    places: usize,
    token: Option<(Scheme, Token<'static>)>,
    /// The token as it was written, where that is something else.
    written: Option<&'static [u8]>,
    /// Why it is no token that can be used.
    fault: Option<&'static str>,
    in_query: bool,
    /// There is no memory to take it out.
    failed: bool,
}

impl Found {
    /// Notes what is in one place: nothing, if it is empty; `None`, if it can't be read.
    fn note(&mut self, place: &'static str, value: Option<&'static [u8]>) {
        if value.is_some_and(<[u8]>::is_empty) {
            return;
        }
        self.places += 1;
        match value.map(Token::parse) {
            Some(Ok(token)) => {
                self.token = Some((Scheme::Bearer, token));
            }
            _ => self.blame(place),
        }
    }

    fn blame(&mut self, fault: &'static str) {
        // That there are several says more than that one of them is none.
        if fault == "several" {
            self.fault = Some(fault);
        } else {
            self.fault.get_or_insert(fault);
        }
    }
}

/// Reads what the request presents, once, and takes it out of where it was. What is there then is a token
/// ([`State::token`]), a fault ([`State::fault`]), or neither. Returns whether it could be done.
pub fn extract_credentials(request: Request, state: &State, conf: &LocationConf) -> bool {
    let mut found = Found::default();
    for source in conf.token.sources() {
        match source {
            Source::Authorization => read_authorization(request, state, &mut found),
            _ => take_out(request, Some(state), source, &mut found),
        }
    }
    if found.places + usize::from(state.token.get().is_some()) > 1 {
        found.blame("several");
    }
    // A request that was at fault once stays so, whatever another location looks at.
    state.fault.set(state.fault.get().or(found.fault));
    state.in_query.set(state.in_query.get() || found.in_query);
    if let (None, Some((scheme, token))) = (state.token.get(), found.token) {
        state.scheme.set(scheme);
        state.token.set(Some(token));
        state.written.set(found.written);
    }
    state.taken.set(state.taken.get() || found.places > 0);
    !found.failed
}

/// Takes out what this location looks at, without a look at what it is: a subrequest is let in by nothing. Returns whether
/// it could be done.
pub fn strip(request: Request, state: Option<&State>, conf: &LocationConf) -> bool {
    strip_but(request, state, conf, &[])
}

/// The same of a location that the request has left, without the sources of the one that it has come into.
pub fn strip_but(
    request: Request,
    state: Option<&State>,
    conf: &LocationConf,
    kept: &[Source],
) -> bool {
    let mut found = Found::default();
    for source in conf.token.sources() {
        if *source != Source::Authorization && !kept.contains(source) {
            take_out(request, state, source, &mut found);
        }
    }
    !found.failed
}

/// Whether `Authorization` holds an access token of the client's, or what should be one.
pub fn is_in_authorization(request: Request, state: Option<&State>) -> bool {
    match request.authorization() {
        Authorization::None => false,
        Authorization::Several => true,
        Authorization::One(header) => {
            !state.is_some_and(|state| state.is_ours(header))
                && !matches!(
                    Credentials::from_authorization(header.value()),
                    Credentials::Missing
                )
        }
    }
}

/// Forbids caches to keep an answer to a request that had its token in the query (RFC 6750 §2.3): all of them, or those
/// that many share.
pub fn restrict_caches(request: Request, state: &State, refused: bool) -> bool {
    if !state.in_query.get() {
        return true;
    }
    // Once: it stays across internal redirects.
    state.in_query.set(false);
    let value: &[u8] = if refused { b"no-store" } else { b"private" };
    respond::push_header(request, b"Cache-Control", value).is_some()
}

fn read_authorization(request: Request, state: &State, found: &mut Found) {
    let header = match request.authorization() {
        Authorization::None => return,
        Authorization::Several => {
            found.places += 2;
            return;
        }
        Authorization::One(header) => header,
    };
    // What we have read already, or have put there.
    let start = NonNull::new(header.value_start().cast_mut());
    if state.original.get() == start || state.is_ours(header) {
        return;
    }
    match Credentials::from_authorization(header.value()) {
        Credentials::Missing => return,
        Credentials::Malformed => found.blame("token"),
        Credentials::Token(scheme, token) => {
            found.token = Some((scheme, token));
        }
    }
    state.original.set(start);
    found.places += 1;
}

/// Reads what is in one place, and takes it out.
fn take_out(request: Request, state: Option<&State>, source: &Source, found: &mut Found) {
    let place = match source {
        Source::Authorization => return,
        Source::Header(_) => "header",
        Source::Cookie(_) => "cookie",
        Source::Query(_) => "query",
    };
    let mut places = Vec::new();
    let held: Vec<&'static [u8]> = match source {
        Source::Authorization => return,
        Source::Header(name) => {
            let is_it = |header: Header| {
                name.is_of(header) && !state.is_some_and(|state| state.is_ours(header))
            };
            let held: Vec<&'static [u8]> = request
                .headers_in()
                .filter(|header| is_it(*header))
                .map(Header::value)
                .collect();
            if held.is_empty() {
                return;
            }
            found.failed |= !headers::remove(request, is_it);
            held
        }
        Source::Cookie(name) => {
            let cookies: Vec<&'static [u8]> = request
                .headers_in()
                .filter(|header| headers::is_cookie(*header))
                .map(Header::value)
                .collect();
            let held: Vec<_> = cookies
                .iter()
                .flat_map(|cookies| values(Form::Cookie, cookies, name.as_bytes()))
                .collect();
            if held.is_empty() {
                return;
            }
            found.failed |= remove_cookies(request, &cookies, name.as_bytes()).is_none();
            held
        }
        Source::Query(name) => {
            let held: Vec<_> = values(Form::Query, request.query(), name.as_bytes()).collect();
            let removed = request.remove_from_query(name.as_bytes());
            found.failed |= removed.is_none();
            // The query may have been rewritten: then it holds nothing, but what the client has asked for still did.
            let removed = removed.unwrap_or_default();
            if held.is_empty() {
                if removed.has_changed {
                    forget(
                        request,
                        Secrets {
                            places: &removed.values,
                            texts: &removed.values,
                            token: &[],
                        },
                    );
                }
                return;
            }
            found.in_query = true;
            places = removed.values;
            held
        }
    };
    // As it was written, and as it is to be read: a variable may hold either.
    let mut texts = held.clone();
    let mut read = Vec::with_capacity(held.len());
    for value in &held {
        let value = match source {
            Source::Query(_) => match decode(Form::Query, value) {
                Some(Cow::Owned(decoded)) => request.copy(&decoded),
                Some(Cow::Borrowed(value)) => Some(value),
                None => None,
            },
            _ => Some(trim(value)),
        };
        texts.extend(value);
        read.push(value);
    }
    places.extend(&held);
    forget(
        request,
        Secrets {
            places: &places,
            texts: &texts,
            token: &[],
        },
    );
    if held.len() > 1 {
        found.places += held.len();
        found.blame("several");
        return;
    }
    for (written, value) in held.into_iter().zip(read) {
        if value != Some(written) {
            found.written = Some(written);
        }
        found.note(place, value);
    }
}

fn remove_cookies(request: Request, cookies: &[&[u8]], name: &[u8]) -> Option<()> {
    let mut left = Vec::with_capacity(cookies.len());
    for cookies in cookies {
        let mut rest = Vec::with_capacity(2 * cookies.len());
        without(Form::Cookie, cookies, name, &mut |piece| {
            rest.extend_from_slice(piece);
        });
        if !rest.is_empty() {
            left.push(headers::copy(request, &rest)?);
        }
    }
    headers::set_cookies(request, &left).then_some(())
}
