//! The credentials of a request, extracted from the places that its location looks at.
//!
//! The part that held a token in a cookie, a header or the query is taken out as soon as it has been read, whatever becomes of the
//! request: nobody after this finds it there, be it the API, a variable or the access log. The token itself stays in the
//! request's memory, for us ([`State::credentials`]). `Authorization` is where the JWT goes, so that it stays until then.

use std::borrow::Cow;
use std::ptr::NonNull;

use phantom_token::gateway::credentials::{Credentials, Source, is_same_name};
use phantom_token::gateway::source::{Form, decode, trim, values, without};
use phantom_token::token;

use crate::conf::LocationConf;
use crate::conf::forget;
use crate::nginx::evaluated::Secrets;
use crate::nginx::headers::{self, Header};
use crate::nginx::request::{Authorization, Request};
use crate::process::state::State;

/// The values of a place, taken out of it.
#[derive(Default)]
struct Taken {
    /// Each value as it is to be read; `None` for one that can't be.
    values: Vec<Option<&'static [u8]>>,
    /// The only one as it was written, where that is something else.
    written: Option<&'static [u8]>,
    /// There is no memory to take it out.
    failed: bool,
}

/// Reads what the request presents, once, and takes it out of where it was ([`State::credentials`]). Returns whether it
/// could be done.
pub fn extract_credentials(request: Request, state: &State, conf: &LocationConf) -> bool {
    // A request that was at fault once stays so, whatever another location looks at.
    let mut credentials = state.credentials.get();
    let mut done = true;
    for source in conf.token.sources() {
        if *source == Source::Authorization {
            read_authorization(request, state, &mut credentials);
            continue;
        }
        let taken = take_out(request, Some(state), source);
        let is_first = credentials.first_token().is_none();
        credentials.add(source, taken.values);
        if is_first && credentials.first_token().is_some() {
            state.written.set(taken.written);
        }
        done &= !taken.failed;
    }
    let more = credentials.places() > state.credentials.get().places();
    state.taken.set(state.taken.get() || more);
    state.credentials.set(credentials);
    done
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
    let taken_out = conf
        .token
        .sources()
        .iter()
        .filter(|source| **source != Source::Authorization && !kept.contains(source));
    // All of them, also when one fails.
    taken_out.fold(true, |done, source| {
        done & !take_out(request, state, source).failed
    })
}

/// Whether `Authorization` holds an access token of the client's, or what should be one.
pub fn is_in_authorization(request: Request, state: Option<&State>) -> bool {
    match request.authorization() {
        Authorization::None => false,
        Authorization::Several => true,
        Authorization::One(header) => {
            !state.is_some_and(|state| state.is_ours(header))
                && !matches!(
                    token::Credentials::from_authorization(header.value()),
                    token::Credentials::Missing
                )
        }
    }
}

fn read_authorization(request: Request, state: &State, credentials: &mut Credentials<'static>) {
    let header = match request.authorization() {
        Authorization::None => return,
        // None of them is looked at.
        Authorization::Several => return credentials.add_authorization([&b""[..]; 2].into_iter()),
        Authorization::One(header) => header,
    };
    // What we have read already, or have put there.
    let start = NonNull::new(header.value_start().cast_mut());
    if state.original.get() == start || state.is_ours(header) {
        return;
    }
    let before = credentials.places();
    credentials.add_authorization([header.value()].into_iter());
    if credentials.places() > before {
        state.original.set(start);
    }
}

/// Reads what is in one place, and takes it out.
fn take_out(request: Request, state: Option<&State>, source: &Source) -> Taken {
    let mut taken = Taken::default();
    let mut places = Vec::new();
    let held: Vec<&'static [u8]> = match source {
        Source::Authorization => return taken,
        Source::Header(name) => {
            let is_it = |header: Header| {
                is_same_name(header.name(), name.as_bytes())
                    && !state.is_some_and(|state| state.is_ours(header))
            };
            let held: Vec<&'static [u8]> = request
                .headers_in()
                .filter(|header| is_it(*header))
                .map(Header::value)
                .collect();
            if held.is_empty() {
                return taken;
            }
            taken.failed |= !headers::remove(request, is_it);
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
                return taken;
            }
            taken.failed |= remove_cookies(request, &cookies, name.as_bytes()).is_none();
            held
        }
        Source::Query(name) => {
            let held: Vec<_> = values(Form::Query, request.query(), name.as_bytes()).collect();
            let removed = request.remove_from_query(name.as_bytes());
            taken.failed |= removed.is_none();
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
                return taken;
            }
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
    if let ([written], [value]) = (&*held, &*read) {
        taken.written = Some(*written).filter(|_| *value != Some(written));
    }
    taken.values = read;
    taken
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
