//! Invalidation of nginx's cached variable values when the request or its verdict changes.
//!
//! nginx evaluates a variable once per request and keeps its value, an empty one too, across internal redirects and for
//! subrequests. When this module changes the request's headers, its query or its verdict, a value from before must not be
//! used any more: neither `$http_authorization` itself, nor a `map` of it, nor a `map` of that. nginx records no
//! dependencies, so there are two kinds of values:
//!
//! - **Computed**: the variable's handler has returned it, and returns it again when it is asked to. All of these are
//!   forgotten, except those of [`KEPT`].
//! - **Written**: `set`, `auth_request_set`, a capture of a regular expression or a script has stored it, and it exists
//!   nowhere else. It is forgotten only if it holds the token.
//!
//! Most variables can't be written. For those that can (flag `NGX_HTTP_VAR_CHANGEABLE`, no set handler) the handler is
//! wrapped when the configuration is complete: [`evaluate`] notes the value that the handler returns, in a table of the
//! request. A value that differs from the note has been written since.

use std::ffi::c_int;
use std::ptr::{self, NonNull};
use std::slice;

use ngx::ffi::{
    NGX_ERROR, NGX_HTTP_VAR_CHANGEABLE, NGX_HTTP_VAR_NOCACHEABLE, NGX_HTTP_VAR_NOHASH, NGX_OK,
    ngx_conf_t, ngx_cycle_t, ngx_hash_find, ngx_hash_key, ngx_http_add_variable,
    ngx_http_core_main_conf_t, ngx_http_get_indexed_variable, ngx_http_get_variable_index,
    ngx_http_get_variable_pt, ngx_http_request_t, ngx_http_set_variable_pt, ngx_http_variable_t,
    ngx_http_variable_value_t, ngx_int_t, ngx_pcalloc, ngx_uint_t,
};
use ngx::ngx_string;

use crate::nginx::bits;
use crate::nginx::panic::contained;
use crate::nginx::request::Request;
use crate::nginx::strings;

/// Variables whose handler returns another value each time, so that a value stays once it is known.
const KEPT: [&[u8]; 1] = [b"request_id"];

/// The variables of the configuration, by how they get their values.
#[derive(Default)]
pub struct Variables {
    /// The index of the variable whose slot in a request holds the request's table.
    slot: usize,
    /// The indices of the variables that only their handlers give a value to.
    computed: Box<[ngx_uint_t]>,
    /// The variables that may be written as well.
    writable: Box<[Writable]>,
}

/// Finds the variables of a request's configuration.
pub type VariablesOf = fn(Request) -> Option<&'static Variables>;

/// A variable whose handler is wrapped.
struct Writable {
    index: usize,
    /// Its place in tables.
    place: usize,
    /// The variables of a request's configuration, of which this is one.
    all: VariablesOf,
    /// The variable's original handler.
    get: ngx_http_get_variable_pt,
    data: usize,
}

/// The note about a writable variable. All zeroes: no note.
#[repr(C)]
struct Note {
    /// The value that the handler has returned, unless it was "not found".
    data: *const u8,
    length: usize,
    not_found: bool,
    kind: Kind,
    /// Whether the handler has matched a regular expression with captures.
    has_captures: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    /// The handler has not been called.
    #[expect(dead_code, reason = "memory of zeroes begins with it")]
    Unknown = 0,
    /// The handler has returned this.
    Computed = 1,
    /// The same, and it was forgotten.
    Forgotten = 2,
}

/// The notes of a request: one for each writable variable, and one in which `data` is `captures_data` as a handler has left
/// it.
struct Table(NonNull<Note>);

/// Secrets that no written value may keep.
#[derive(Clone, Copy, Default)]
pub struct Secrets<'a> {
    /// Memory that a value must not lie in.
    pub places: &'a [&'a [u8]],
    /// Texts that may be a token; the client chooses them.
    pub texts: &'a [&'a [u8]],
    /// The forms of a valid token; `texts` are ignored then.
    pub token: &'a [&'a [u8]],
}

impl Variables {
    /// Registers the variable whose slot in a request holds the request's table.
    ///
    /// # Safety
    /// Called by nginx before it reads the `http` block.
    pub unsafe fn register(&mut self, cf: *mut ngx_conf_t) -> bool {
        let mut name = ngx_string!("phantom_token_notes");
        let flags = (NGX_HTTP_VAR_NOCACHEABLE | NGX_HTTP_VAR_NOHASH) as ngx_uint_t;
        // SAFETY: `cf` is valid; nginx copies the name, and its answer is a valid variable or NULL.
        unsafe {
            let Some(variable) = ngx_http_add_variable(cf, &raw mut name, flags).as_mut() else {
                return false;
            };
            variable.get_handler = Some(nothing);
            let index = usize::try_from(ngx_http_get_variable_index(cf, &raw mut name));
            let Ok(slot) = index else {
                return false;
            };
            self.slot = slot;
        }
        true
    }

    /// Sorts the variables, and wraps the handlers of those that may be written. Called once the configuration is complete.
    ///
    /// # Safety
    /// `cycle` must be valid and serve no request yet. `self` must stay where it is as long as the cycle.
    pub unsafe fn prepare(&mut self, cycle: *mut ngx_cycle_t, all: VariablesOf) {
        // SAFETY: the caller's promise.
        let Some(core) = (unsafe { super::core_main(cycle) }) else {
            return;
        };
        let (mut computed, mut writable) = (Vec::new(), Vec::new());
        // SAFETY: the caller's promise. The core module's configuration is complete: `variables` holds `nelts` variables
        // with a name and a handler each, and nobody else looks at them meanwhile. The hash holds variables.
        unsafe {
            let known = (*core).variables.elts.cast::<ngx_http_variable_t>();
            for index in 0..(*core).variables.nelts {
                let variable = &*known.add(index);
                if index == self.slot || variable.get_handler.is_none() {
                    continue;
                }
                if can_be_written(core, variable) {
                    writable.push(Writable {
                        index,
                        place: writable.len(),
                        all,
                        get: variable.get_handler,
                        data: variable.data,
                    });
                } else if !KEPT.contains(&strings::bytes(&variable.name)) {
                    computed.push(index);
                }
            }
            self.computed = computed.into();
            self.writable = writable.into();
            for wrapped in &self.writable {
                let variable = known.add(wrapped.index);
                (*variable).get_handler = Some(evaluate);
                (*variable).data = ptr::from_ref(wrapped).expose_provenance();
            }
        }
    }

    /// Invalidates a request's variables: all computed values, and written values that contain a secret. A variable
    /// that was `set` is empty then.
    pub fn forget(&self, request: Request, secrets: Secrets) {
        let r = request.as_ptr();
        let mut capturing = Vec::new();
        // SAFETY: the request lives and has as many values as there are indexed variables; the indices are such.
        unsafe {
            let values = (*r).variables;
            bits::forget_variables(values, self.computed.as_ptr(), self.computed.len());
            let table = Table::of(r, self.slot);
            for Writable { index, place, .. } in &self.writable {
                let value = values.add(*index);
                let found = bits::variable::valid(value) != 0;
                if !found && bits::variable::not_found(value) == 0 {
                    continue;
                }
                let note = table.as_ref().map(|table| table.note(*place));
                let note = note.and_then(|note| note.as_mut().filter(|note| note.is_of(value)));
                if let Some(note) = note {
                    note.kind = Kind::Forgotten;
                    if note.has_captures {
                        capturing.push(*index);
                    }
                } else if !found || !secrets.are_in((*value).data, bits::variable::len(value)) {
                    continue;
                }
                bits::variable::set_valid(value, 0);
                bits::variable::set_not_found(value, 0);
            }
            #[cfg(pcre)]
            self.forget_captures(r, table.as_ref(), secrets);
            // A regular expression of a `map` has written captures, which somebody may use after it: those of now.
            for index in capturing {
                ngx_http_get_indexed_variable(r, index);
            }
        }
    }

    /// Forgets the numbered captures if they were computed or hold a secret.
    ///
    /// # Safety
    /// `r` must be live, and the table its own.
    #[cfg(pcre)]
    unsafe fn forget_captures(
        &self,
        r: *mut ngx_http_request_t,
        table: Option<&Table>,
        secrets: Secrets,
    ) {
        // SAFETY: the caller's promise. `captures` holds `ncaptures` numbers, pairs of start and end in `captures_data`.
        unsafe {
            if (*r).captures.is_null() || (*r).captures_data.is_null() {
                return;
            }
            if let Some(table) = table {
                let noted = table.note(self.writable.len());
                if ptr::eq((*noted).data, (*r).captures_data) {
                    (*noted).data = ptr::null();
                    (*r).ncaptures = 0;
                    return;
                }
            }
            let numbers = slice::from_raw_parts((*r).captures, (*r).ncaptures);
            // The first pair is the whole match, which nginx shows nobody, and does not store without a group.
            let holds = numbers.chunks_exact(2).skip(1).any(|pair| {
                // A group that took no part has -1.
                let (Ok(start), Ok(end)) = (usize::try_from(pair[0]), usize::try_from(pair[1]))
                else {
                    return false;
                };
                end > start && secrets.are_in((*r).captures_data.add(start), end - start)
            });
            if holds {
                (*r).ncaptures = 0;
            }
        }
    }
}

/// Whether a variable may be written by anything other than its handler.
///
/// # Safety
/// `core` must be a complete configuration, and the variable one of it.
unsafe fn can_be_written(
    core: *mut ngx_http_core_main_conf_t,
    variable: &ngx_http_variable_t,
) -> bool {
    let name = variable.name;
    // SAFETY: the caller's promise; nginx reads the name only. The hash holds variables.
    let declared = unsafe {
        let key = ngx_hash_key(name.data, name.len);
        ngx_hash_find(&raw mut (*core).variables_hash, key, name.data, name.len)
            .cast::<ngx_http_variable_t>()
            .as_ref()
    };
    let changeable = |variable: &ngx_http_variable_t| {
        variable.flags & NGX_HTTP_VAR_CHANGEABLE as ngx_uint_t != 0
    };
    // `set $http_x …` is declared under this name, while its handler and flags are those of `$http_`.
    let set_handler: ngx_http_set_variable_pt =
        declared.map_or(variable.set_handler, |declared| declared.set_handler);
    (changeable(variable) || declared.is_some_and(changeable)) && set_handler.is_none()
}

impl Note {
    /// Whether the value is the one that was noted, and not forgotten.
    ///
    /// # Safety
    /// `value` must be valid.
    unsafe fn is_of(&self, value: *const ngx_http_variable_value_t) -> bool {
        // SAFETY: the caller's promise.
        unsafe {
            let not_found = bits::variable::not_found(value) != 0;
            self.kind == Kind::Computed
                && self.not_found == not_found
                && (not_found
                    || ptr::eq(self.data, (*value).data)
                        && self.length == bits::variable::len(value))
        }
    }
}

impl Table {
    /// The table of a request, if it has one.
    ///
    /// # Safety
    /// `r` must be live, and `slot` the index under which tables are kept.
    unsafe fn of(r: *mut ngx_http_request_t, slot: usize) -> Option<Self> {
        // SAFETY: the caller's promise: the data of this variable is written by `of_or_new` alone.
        unsafe { NonNull::new((*(*r).variables.add(slot)).data.cast()).map(Table) }
    }

    /// The table of a request, created if there is none. `None` when there is no memory.
    ///
    /// # Safety
    /// As [`Table::of`]; `count` must be the number of writable variables.
    unsafe fn of_or_new(r: *mut ngx_http_request_t, slot: usize, count: usize) -> Option<Self> {
        // SAFETY: the caller's promise. Zeroes are valid notes, of nothing. Subrequests share values and pool with their
        // main request.
        unsafe {
            Table::of(r, slot).or_else(|| {
                let notes = ngx_pcalloc((*r).pool, (count + 1) * size_of::<Note>());
                (*(*r).variables.add(slot)).data = notes.cast();
                NonNull::new(notes.cast()).map(Table)
            })
        }
    }

    /// The note at this place.
    ///
    /// # Safety
    /// There must be as many.
    unsafe fn note(&self, place: usize) -> *mut Note {
        // SAFETY: the caller's promise.
        unsafe { self.0.as_ptr().add(place) }
    }
}

impl Secrets<'_> {
    /// Whether a value is in one of the places, or holds one of the texts or the token.
    ///
    /// # Safety
    /// `data` must be NULL or point to `length` bytes.
    unsafe fn are_in(&self, data: *const u8, length: usize) -> bool {
        /// A shorter text could be part of another value by chance.
        const TELLING: usize = 16;
        if length == 0 || data.is_null() {
            return false;
        }
        let (start, end) = (data.addr(), data.addr() + length);
        let is_in = |place: &&[u8]| {
            let place = place.as_ptr_range();
            start < place.end.addr() && place.start.addr() < end
        };
        if self.places.iter().any(is_in) {
            return true;
        }
        // SAFETY: the caller's promise.
        let value = unsafe { slice::from_raw_parts(data, length) };
        let within = |secret: &&[u8]| {
            length >= secret.len()
                && !secret.is_empty()
                && memchr::memmem::find(value, secret).is_some()
        };
        // A token that is good is looked for, however short. What is not good may be anything that a client likes, and must
        // not make other variables disappear.
        if !self.token.is_empty() {
            return self.token.iter().any(within);
        }
        self.texts.iter().any(|text| {
            if text.len() < TELLING {
                !text.is_empty() && value == *text
            } else {
                within(text)
            }
        })
    }
}

/// The wrapper around the handler of each writable variable: calls the handler, and notes the value.
unsafe extern "C" fn evaluate(
    r: *mut ngx_http_request_t,
    value: *mut ngx_http_variable_value_t,
    data: usize,
) -> ngx_int_t {
    contained(NGX_ERROR as ngx_int_t, || {
        // SAFETY: nginx calls this with a live request, and hands back what `prepare` has set: a writable variable, which
        // stays as long as the configuration.
        let (request, variable) = unsafe {
            (
                Request::new(r),
                ptr::with_exposed_provenance::<Writable>(data).as_ref(),
            )
        };
        let (Some(request), Some(variable)) = (request, variable) else {
            return NGX_ERROR as ngx_int_t;
        };
        let (Some(all), Some(get)) = ((variable.all)(request), variable.get) else {
            return NGX_ERROR as ngx_int_t;
        };
        // SAFETY: the request lives, and its table has a note for each of these. nginx gives a valid place for the value.
        // No reference to a note is held while nginx is called.
        unsafe {
            let Some(table) = Table::of_or_new(r, all.slot, all.writable.len()) else {
                return NGX_ERROR as ngx_int_t;
            };
            #[cfg(pcre)]
            let captures = Captures::before(r, (*table.note(variable.place)).kind);
            // Once it has, somebody may use what it captures.
            let had_captures = (*table.note(variable.place)).has_captures;
            let result = get(r, value, variable.data);
            #[cfg(pcre)]
            let has_captures = captures.after(r, all, &table) || had_captures;
            #[cfg(not(pcre))]
            let has_captures = false;
            table.note(variable.place).write(Note {
                data: (*value).data,
                length: bits::variable::len(value),
                // nginx makes this of an error.
                not_found: result != NGX_OK as ngx_int_t || bits::variable::not_found(value) != 0,
                kind: Kind::Computed,
                has_captures,
            });
            result
        }
    })
}

/// The captures of regular expressions while a variable is evaluated.
#[cfg(pcre)]
struct Captures {
    data: *mut u8,
    /// Captures to restore: evaluating a variable again must not change `$1`.
    numbers: Vec<c_int>,
}

#[cfg(pcre)]
impl Captures {
    /// # Safety
    /// `r` must be live.
    unsafe fn before(r: *mut ngx_http_request_t, kind: Kind) -> Self {
        // SAFETY: the caller's promise; `captures` holds `ncaptures` numbers.
        unsafe {
            let again = kind == Kind::Forgotten && !(*r).captures.is_null();
            Captures {
                data: (*r).captures_data,
                numbers: match again {
                    true => slice::from_raw_parts((*r).captures, (*r).ncaptures).to_vec(),
                    false => Vec::new(),
                },
            }
        }
    }

    /// Notes the handler's captures, which are computed values too. Returns whether there are any.
    ///
    /// # Safety
    /// `r` must be the same, and the table its own.
    unsafe fn after(self, r: *mut ngx_http_request_t, all: &Variables, table: &Table) -> bool {
        // SAFETY: the caller's promise; `captures` holds `ncaptures` numbers, and room for as many as any regular expression
        // has.
        unsafe {
            let data = (*r).captures_data;
            // A handler matches a copy that it has made.
            if ptr::eq(data, self.data) || (*r).captures.is_null() {
                return false;
            }
            // Without a group, nginx stores not even the whole match.
            let has_groups = (*r).ncaptures > 2;
            if has_groups {
                self.note_names(r, all, table);
            }
            if self.numbers.is_empty() {
                (*table.note(all.writable.len())).data = data;
            } else {
                ptr::copy_nonoverlapping(self.numbers.as_ptr(), (*r).captures, self.numbers.len());
                (*r).ncaptures = self.numbers.len();
                (*r).captures_data = self.data;
            }
            has_groups
        }
    }

    /// Notes the variables that are named captures.
    ///
    /// # Safety
    /// As [`Captures::after`].
    unsafe fn note_names(&self, r: *mut ngx_http_request_t, all: &Variables, table: &Table) {
        // SAFETY: the caller's promise.
        unsafe {
            let numbers = slice::from_raw_parts((*r).captures, (*r).ncaptures);
            let end = numbers.iter().copied().max().unwrap_or_default();
            let start = (*r).captures_data.addr();
            let range = start..=start + usize::try_from(end).unwrap_or_default();
            for other in &all.writable {
                let value = (*r).variables.add(other.index);
                let length = bits::variable::len(value);
                if bits::variable::valid(value) != 0
                    && length > 0
                    && range.contains(&(*value).data.addr())
                    && range.contains(&((*value).data.addr() + length))
                {
                    table.note(other.place).write(Note {
                        data: (*value).data,
                        length,
                        not_found: false,
                        kind: Kind::Computed,
                        has_captures: false,
                    });
                }
            }
        }
    }
}

/// The handler of the variable whose slot holds the table: it is always "not found".
unsafe extern "C" fn nothing(
    _: *mut ngx_http_request_t,
    value: *mut ngx_http_variable_value_t,
    _: usize,
) -> ngx_int_t {
    // SAFETY: nginx gives a valid place for the value.
    unsafe { bits::variable::set_not_found(value, 1) };
    NGX_OK as ngx_int_t
}
