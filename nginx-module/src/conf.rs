//! What can be configured: the directives, what they leave behind, and how locations inherit it.
//!
//! Everything is checked while nginx reads its configuration, so that a mistake is an error of `nginx -t` with file
//! and line, and nothing is left to go wrong when a request arrives.

mod provider;
mod zone;

use std::ffi::{c_char, c_void};
use std::fmt::Write as _;
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::slice;
use std::sync::Arc;

use ngx::core::{NGX_CONF_ERROR, NGX_CONF_OK};
use ngx::ffi::{
    NGX_CONF_1MORE, NGX_CONF_BLOCK, NGX_CONF_TAKE1, NGX_HTTP_LOC_CONF, NGX_HTTP_LOC_CONF_OFFSET,
    NGX_HTTP_MAIN_CONF, NGX_HTTP_MAIN_CONF_OFFSET, NGX_HTTP_SRV_CONF, NGX_LOG_EMERG, NGX_LOG_WARN,
    ngx_command_t, ngx_conf_t, ngx_http_core_loc_conf_t, ngx_http_request_t, ngx_int_t, ngx_log_t,
    ngx_str_t, ngx_uint_t,
};
use ngx::{ngx_conf_log_error, ngx_log_error, ngx_string};
use phantom_token::Provider;
use phantom_token::policy::RequiredScopes;
use phantom_token::purge::MAX_FORM_LENGTH;

use crate::panic::contained;
use crate::worker::Worker;
use crate::{core_location, jwks, pool, purge};

pub use zone::Zone;

const IN_HTTP: ngx_uint_t = NGX_HTTP_MAIN_CONF as ngx_uint_t;
const IN_LOCATION: ngx_uint_t = NGX_HTTP_LOC_CONF as ngx_uint_t;
const ANYWHERE: ngx_uint_t =
    (NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF) as ngx_uint_t;
const BLOCK: ngx_uint_t = NGX_CONF_BLOCK as ngx_uint_t;
const ONE: ngx_uint_t = NGX_CONF_TAKE1 as ngx_uint_t;
const SOME: ngx_uint_t = NGX_CONF_1MORE as ngx_uint_t;

/// The directives.
pub static mut COMMANDS: [ngx_command_t; 10] = [
    ngx_command_t {
        name: ngx_string!("phantom_token_provider"),
        type_: IN_HTTP | BLOCK | ONE,
        set: Some(provider::block),
        conf: NGX_HTTP_MAIN_CONF_OFFSET,
        offset: 0,
        post: ptr::null_mut(),
    },
    ngx_command_t {
        name: ngx_string!("phantom_token_zone"),
        type_: IN_HTTP | ONE,
        set: Some(zone::set),
        conf: NGX_HTTP_MAIN_CONF_OFFSET,
        offset: 0,
        post: ptr::null_mut(),
    },
    ngx_command_t {
        name: ngx_string!("phantom_token"),
        type_: ANYWHERE | ONE,
        set: Some(set_provider),
        conf: NGX_HTTP_LOC_CONF_OFFSET,
        offset: 0,
        post: ptr::null_mut(),
    },
    ngx_command_t {
        name: ngx_string!("phantom_token_realm"),
        type_: ANYWHERE | ONE,
        set: Some(set_realm),
        conf: NGX_HTTP_LOC_CONF_OFFSET,
        offset: 0,
        post: ptr::null_mut(),
    },
    ngx_command_t {
        name: ngx_string!("phantom_token_scopes"),
        type_: ANYWHERE | SOME,
        set: Some(add_scopes),
        conf: NGX_HTTP_LOC_CONF_OFFSET,
        offset: 0,
        post: ptr::null_mut(),
    },
    ngx_command_t {
        name: ngx_string!("phantom_token_scope"),
        type_: ANYWHERE | ONE,
        set: Some(add_scopes),
        conf: NGX_HTTP_LOC_CONF_OFFSET,
        offset: 0,
        post: ptr::null_mut(),
    },
    ngx_command_t {
        name: ngx_string!("phantom_token_preflight"),
        type_: ANYWHERE | ONE,
        set: Some(set_preflight),
        conf: NGX_HTTP_LOC_CONF_OFFSET,
        offset: 0,
        post: ptr::null_mut(),
    },
    ngx_command_t {
        name: ngx_string!("phantom_token_purge"),
        type_: IN_LOCATION | ONE,
        set: Some(set_purge),
        conf: NGX_HTTP_LOC_CONF_OFFSET,
        offset: 0,
        post: ptr::null_mut(),
    },
    ngx_command_t {
        name: ngx_string!("phantom_token_jwks"),
        type_: IN_LOCATION | ONE,
        set: Some(set_jwks),
        conf: NGX_HTTP_LOC_CONF_OFFSET,
        offset: 0,
        post: ptr::null_mut(),
    },
    ngx_command_t::empty(),
];

/// What there is once per configuration.
#[derive(Default)]
pub struct MainConf {
    /// The providers, in the order of their definition; a location knows its own by the place in here.
    pub providers: Vec<Defined>,
    /// The zones, in the order of their definition.
    pub zones: Vec<Rc<Zone>>,
    uses: Vec<Use>,
    /// What the worker process has started for them, if it is one and could.
    pub worker: Option<Box<Worker>>,
}

/// A provider of the configuration.
pub struct Defined {
    /// What is set of it.
    pub provider: Arc<Provider>,
    /// Whether any location uses it: nothing is started for one that none uses.
    pub used: bool,
    /// Where workers remember together; `None`: each for itself.
    pub zone: Option<Rc<Zone>>,
    /// What `cache_zone` says, to be found when all zones are known.
    wanted: Wanted,
    /// Where the block ends.
    place: String,
}

/// What `cache_zone` says.
#[derive(Default)]
enum Wanted {
    /// Nothing: the zone, if there is one.
    #[default]
    Any,
    /// No zone.
    None,
    /// The zone of this name; said here.
    Named { name: String, place: String },
}

/// A directive that names a provider, to be checked when all providers are known.
struct Use {
    name: String,
    place: String,
    purpose: Purpose,
    conf: NonNull<LocationConf>,
}

/// What a location uses a provider for.
enum Purpose {
    Resolve,
    Serve(fn(usize) -> Content),
}

/// What a location does with tokens.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Protection {
    /// Nothing is said here: what the level above says.
    #[default]
    Unset,
    /// Nothing.
    Off,
    /// Resolves them with the provider at this place in [`MainConf::providers`].
    On(usize),
    /// Will be `On` or an error when all providers are known.
    Named,
}

/// What the module serves itself, of the provider at this place in [`MainConf::providers`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Forgets its tokens.
    Purge(usize),
    /// Its keys.
    Jwks(usize),
}

impl Content {
    fn directive(self) -> &'static str {
        match self {
            Content::Purge(_) => "phantom_token_purge",
            Content::Jwks(_) => "phantom_token_jwks",
        }
    }

    fn handler(self) -> Handler {
        match self {
            Content::Purge(_) => purge::handler,
            Content::Jwks(_) => jwks::handler,
        }
    }
}

type Handler = unsafe extern "C" fn(*mut ngx_http_request_t) -> ngx_int_t;

/// What happens to a CORS preflight.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub enum Preflight {
    /// It is answered here.
    #[default]
    Answer,
    /// It goes on, without `Authorization`.
    Pass,
    /// It needs a token like any other request.
    Deny,
}

/// What there is once per location.
#[derive(Default)]
pub struct LocationConf {
    /// What is done with tokens.
    pub protection: Protection,
    /// What every token needs.
    pub scopes: Option<Arc<RequiredScopes>>,
    /// What the module serves here itself.
    pub content: Option<Content>,
    /// By which directive, and where that is.
    content_at: Option<(&'static str, Arc<str>)>,
    preflight: Option<Preflight>,
    realm: Option<Arc<str>>,
    challenges: Option<Arc<Challenges>>,
}

/// The values of `WWW-Authenticate` (RFC 6750 §3), made once.
#[derive(Default)]
pub struct Challenges {
    /// There is no token: no error code (RFC 6750 §3.1).
    pub missing: Box<str>,
    /// What is there is no token.
    pub malformed: Box<str>,
    /// The token is not active.
    pub inactive: Box<str>,
    /// The token lacks a scope.
    pub forbidden: Box<str>,
}

impl LocationConf {
    /// What happens to a CORS preflight.
    pub fn preflight(&self) -> Preflight {
        self.preflight.unwrap_or_default()
    }

    /// The challenges of this location.
    pub fn challenges(&self) -> Option<&Challenges> {
        self.challenges.as_deref()
    }

    /// Takes from the level above what is not set here.
    fn merge(&mut self, above: &Self) {
        if self.protection == Protection::Unset {
            self.protection = above.protection;
        }
        self.preflight = self.preflight.or(above.preflight);
        let own = self.realm.is_some() || self.scopes.is_some();
        if self.realm.is_none() {
            self.realm.clone_from(&above.realm);
        }
        // As with nginx's own lists: those of the level above apply if there are none here.
        if self.scopes.is_none() {
            self.scopes.clone_from(&above.scopes);
        }
        if !matches!(self.protection, Protection::On(_)) {
            return;
        }
        self.challenges = match &above.challenges {
            // The same words: locations that only inherit share them.
            Some(challenges) if !own => Some(Arc::clone(challenges)),
            _ => Some(Arc::new(Challenges::new(
                self.realm.as_deref().unwrap_or("api"),
                self.scopes.as_deref(),
            ))),
        };
    }
}

impl Challenges {
    fn new(realm: &str, scopes: Option<&RequiredScopes>) -> Self {
        let mut quoted = String::with_capacity(realm.len());
        for character in realm.chars() {
            // quoted-pair, RFC 9110 §5.6.4
            if matches!(character, '"' | '\\') {
                quoted.push('\\');
            }
            quoted.push(character);
        }
        let challenge = |error: &str, with_scope: bool| {
            let mut text = format!("Bearer realm=\"{quoted}\"");
            if !error.is_empty() {
                let _ = write!(text, ", error=\"{error}\"");
            }
            if let Some(scopes) = scopes.filter(|scopes| with_scope && !scopes.is_empty()) {
                let _ = write!(text, ", scope=\"{}\"", scopes.as_str());
            }
            text.into_boxed_str()
        };
        Challenges {
            missing: challenge("", true),
            malformed: challenge("invalid_request", false),
            inactive: challenge("invalid_token", false),
            forbidden: challenge("insufficient_scope", true),
        }
    }
}

/// The arguments of a directive, its name first.
///
/// # Safety
/// `cf` must be what nginx gave to the handler of a directive; the arguments live as long as the configuration.
unsafe fn arguments<'a>(cf: *mut ngx_conf_t) -> &'a [ngx_str_t] {
    // SAFETY: nginx fills `args` with `ngx_str_t` before it calls the handler.
    unsafe { (*(*cf).args).as_slice() }
}

/// The text of an argument, or `None` when it is not UTF-8.
fn text(argument: &ngx_str_t) -> Option<&str> {
    std::str::from_utf8(bytes(argument)).ok()
}

fn bytes(argument: &ngx_str_t) -> &[u8] {
    if argument.len == 0 {
        return &[];
    }
    // SAFETY: a string that nginx made points to `len` bytes, which live as long as the string does.
    unsafe { slice::from_raw_parts(argument.data, argument.len) }
}

/// Says what is wrong with a directive, with file and line, and refuses it.
fn refuse(cf: *mut ngx_conf_t, message: &str) -> *mut c_char {
    ngx_conf_log_error!(NGX_LOG_EMERG, cf, "{message}");
    NGX_CONF_ERROR
}

/// What nginx writes after a directive that is there twice.
fn duplicate() -> *mut c_char {
    c"is duplicate".as_ptr().cast_mut()
}

/// The handler of a directive that sets something in a [`LocationConf`] from its arguments as text.
///
/// # Safety
/// As nginx calls the handler of a directive whose `conf` is the location's.
unsafe fn set_in_location(
    cf: *mut ngx_conf_t,
    conf: *mut c_void,
    set: impl FnOnce(&mut LocationConf, &str, &[&str]) -> *mut c_char,
) -> *mut c_char {
    contained(NGX_CONF_ERROR, || {
        // SAFETY: `conf` is what `create_location` made, and nobody else looks at it while a directive is read.
        let conf = unsafe { &mut *conf.cast::<LocationConf>() };
        // SAFETY: the caller's promise.
        let arguments = unsafe { arguments(cf) };
        let Some(arguments) = arguments.iter().map(text).collect::<Option<Vec<_>>>() else {
            return refuse(cf, "the directive's arguments are not UTF-8");
        };
        match arguments.split_first() {
            Some((name, values)) => set(conf, name, values),
            None => NGX_CONF_ERROR,
        }
    })
}

/// `phantom_token NAME | off`
unsafe extern "C" fn set_provider(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    let set = |location: &mut LocationConf, _: &str, values: &[&str]| {
        if location.protection != Protection::Unset {
            return duplicate();
        }
        match values {
            ["off"] => location.protection = Protection::Off,
            [""] | [] => {
                return refuse(cf, "\"phantom_token\" needs the name of a provider, or off");
            }
            [name, ..] => {
                location.protection = Protection::Named;
                // SAFETY: `cf` is valid here.
                return unsafe { remember_use(cf, location, name, Purpose::Resolve) };
            }
        }
        NGX_CONF_OK
    };
    // SAFETY: the directive is in the table with the location's configuration.
    unsafe { set_in_location(cf, conf, set) }
}

/// `phantom_token_purge NAME`
unsafe extern "C" fn set_purge(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: the directive is in the table with the location's configuration.
    unsafe { set_content(cf, conf, Content::Purge) }
}

/// `phantom_token_jwks NAME`
unsafe extern "C" fn set_jwks(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    // SAFETY: the directive is in the table with the location's configuration.
    unsafe { set_content(cf, conf, Content::Jwks) }
}

/// Sets what a location serves, of a provider that is named.
///
/// # Safety
/// As nginx calls the handler of a directive whose `conf` is the location's.
unsafe fn set_content(
    cf: *mut ngx_conf_t,
    conf: *mut c_void,
    content: fn(usize) -> Content,
) -> *mut c_char {
    // Which provider it is will be known later; the rest does not depend on it.
    let unnamed = content(0);
    let set = |location: &mut LocationConf, directive: &str, values: &[&str]| {
        match &location.content_at {
            Some((other, _)) if *other == directive => return duplicate(),
            Some((other, place)) => {
                return refuse(
                    cf,
                    &format!(
                        "\"{directive}\" is in a location that has \"{other}\" in {place}: give it one of its own"
                    ),
                );
            }
            None => {}
        }
        let name = match values {
            [""] | ["off"] | [] => {
                return refuse(cf, &format!("\"{directive}\" needs the name of a provider"));
            }
            [name, ..] => name,
        };
        // SAFETY: `cf` is valid here, and inside a location, whose contexts it has.
        unsafe {
            let Some(core) = core_location(cf).as_mut() else {
                return NGX_CONF_ERROR;
            };
            core.handler = Some(unnamed.handler());
            location.content_at = Some((unnamed.directive(), place(cf).into()));
            remember_use(cf, location, name, Purpose::Serve(content))
        }
    };
    // SAFETY: the caller's promise.
    unsafe { set_in_location(cf, conf, set) }
}

/// Remembers that a location names a provider.
///
/// # Safety
/// `cf` must be what nginx gave to the handler of a directive inside `http`.
unsafe fn remember_use(
    cf: *mut ngx_conf_t,
    location: &mut LocationConf,
    name: &str,
    purpose: Purpose,
) -> *mut c_char {
    // SAFETY: the caller's promise; the module's main configuration was made before the first directive was read, and
    // `location` is no part of it.
    unsafe {
        let Some(main) = MainConf::of_conf(cf) else {
            return NGX_CONF_ERROR;
        };
        (*main.as_ptr()).uses.push(Use {
            name: name.to_owned(),
            place: place(cf),
            purpose,
            conf: NonNull::from(location),
        });
    }
    NGX_CONF_OK
}

/// `phantom_token_realm STRING`
unsafe extern "C" fn set_realm(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    let set = |location: &mut LocationConf, _: &str, values: &[&str]| {
        if location.realm.is_some() {
            return duplicate();
        }
        let Some(realm) = values.first() else {
            return NGX_CONF_ERROR;
        };
        if realm.chars().any(char::is_control) {
            return refuse(
                cf,
                "\"phantom_token_realm\" must not contain control characters: it is sent in a header",
            );
        }
        location.realm = Some(Arc::from(*realm));
        NGX_CONF_OK
    };
    // SAFETY: the directive is in the table with the location's configuration.
    unsafe { set_in_location(cf, conf, set) }
}

/// `phantom_token_scopes SCOPE…` and `phantom_token_scope SCOPE`
unsafe extern "C" fn add_scopes(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    let set = |location: &mut LocationConf, name: &str, values: &[&str]| {
        let mut scopes = location.scopes.take().unwrap_or_default();
        for value in values {
            if let Err(error) = Arc::make_mut(&mut scopes).add(value) {
                return refuse(
                    cf,
                    &format!("invalid value \"{value}\" in \"{name}\": {error}"),
                );
            }
        }
        location.scopes = Some(scopes);
        NGX_CONF_OK
    };
    // SAFETY: the directive is in the table with the location's configuration.
    unsafe { set_in_location(cf, conf, set) }
}

/// `phantom_token_preflight answer | pass | deny`
unsafe extern "C" fn set_preflight(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    let set = |location: &mut LocationConf, name: &str, values: &[&str]| {
        if location.preflight.is_some() {
            return duplicate();
        }
        location.preflight = Some(match values {
            ["answer"] => Preflight::Answer,
            ["pass"] => Preflight::Pass,
            ["deny"] => Preflight::Deny,
            _ => {
                return refuse(
                    cf,
                    &format!(
                        "invalid value \"{}\" in \"{name}\": it is answer, pass or deny",
                        values.join(" ")
                    ),
                );
            }
        });
        NGX_CONF_OK
    };
    // SAFETY: the directive is in the table with the location's configuration.
    unsafe { set_in_location(cf, conf, set) }
}

/// Where the configuration is being read: `FILE:LINE`.
///
/// # Safety
/// `cf` must be valid.
unsafe fn place(cf: *mut ngx_conf_t) -> String {
    // SAFETY: `conf_file` is valid, or NULL for what is given on the command line.
    unsafe {
        match (*cf).conf_file.as_ref() {
            None => "command line".to_owned(),
            Some(file) => format!(
                "{}:{}",
                String::from_utf8_lossy(bytes(&file.file.name)),
                file.line
            ),
        }
    }
}

/// Makes the main configuration.
pub unsafe extern "C" fn create_main(cf: *mut ngx_conf_t) -> *mut c_void {
    // SAFETY: nginx gives a valid configuration with its pool.
    contained(ptr::null_mut(), || unsafe {
        pool::emplace((*cf).pool, MainConf::default())
            .map_or(ptr::null_mut(), |conf| conf.as_ptr().cast())
    })
}

/// Makes a location's configuration.
pub unsafe extern "C" fn create_location(cf: *mut ngx_conf_t) -> *mut c_void {
    // SAFETY: nginx gives a valid configuration with its pool.
    contained(ptr::null_mut(), || unsafe {
        pool::emplace((*cf).pool, LocationConf::default())
            .map_or(ptr::null_mut(), |conf| conf.as_ptr().cast())
    })
}

/// Finds the zones that providers name, and the providers that locations name: all are known now, and nothing has
/// been merged yet.
pub unsafe extern "C" fn init_main(cf: *mut ngx_conf_t, conf: *mut c_void) -> *mut c_char {
    contained(NGX_CONF_ERROR, || {
        // SAFETY: `conf` is what `create_main` made, and nobody else looks at it meanwhile.
        let main = unsafe { &mut *conf.cast::<MainConf>() };
        // SAFETY: nginx gives a valid configuration with its log.
        let log = unsafe { (*cf).log };
        if let Err((message, place)) = main.find_zones().and_then(|()| main.find_providers()) {
            complain(log, NGX_LOG_EMERG, &message, &place);
            return NGX_CONF_ERROR;
        }
        for zone in &main.zones {
            // One is the list's.
            let providers = Rc::strong_count(zone) - 1;
            let (level, message) = match providers {
                0 => (NGX_LOG_WARN, "is used by no provider".to_owned()),
                1..=Zone::MAX_PROVIDERS => continue,
                _ => (
                    NGX_LOG_EMERG,
                    format!(
                        "has room for {} providers, and {providers} use it: give some of them another with cache_zone",
                        Zone::MAX_PROVIDERS
                    ),
                ),
            };
            let name = zone.name();
            complain(
                log,
                level,
                &format!("zone \"{name}\" {message}"),
                zone.place(),
            );
            if level == NGX_LOG_EMERG {
                return NGX_CONF_ERROR;
            }
        }
        NGX_CONF_OK
    })
}

/// Says what is wrong at a place of the configuration that has been read already.
fn complain(log: *mut ngx_log_t, level: u32, message: &str, place: &str) {
    ngx_log_error!(level, log, "{message} in {place}");
}

impl MainConf {
    /// Finds each provider's zone. The error is a message and the place that it is about.
    fn find_zones(&mut self) -> Result<(), (String, String)> {
        for defined in &mut self.providers {
            defined.zone = match &defined.wanted {
                Wanted::None => None,
                Wanted::Named { name, place } => {
                    let found = self.zones.iter().find(|zone| zone.name() == name);
                    let Some(zone) = found else {
                        let message = format!("no phantom_token_zone \"{name}\" is defined");
                        return Err((message, place.clone()));
                    };
                    Some(Rc::clone(zone))
                }
                Wanted::Any => match self.zones.as_slice() {
                    [] => None,
                    [zone] => Some(Rc::clone(zone)),
                    several => {
                        let names: Vec<_> = several.iter().map(|zone| zone.name()).collect();
                        let message = format!(
                            "provider \"{}\": there are several zones: say which one with cache_zone: {} or off",
                            defined.provider.name(),
                            names.join(", ")
                        );
                        return Err((message, defined.place.clone()));
                    }
                },
            };
        }
        Ok(())
    }

    /// Finds the provider of each directive that names one. The error is a message and the place that it is about.
    fn find_providers(&mut self) -> Result<(), (String, String)> {
        for Use {
            name,
            place,
            purpose,
            mut conf,
        } in std::mem::take(&mut self.uses)
        {
            let found = self
                .providers
                .iter()
                .position(|defined| defined.provider.name() == name);
            let Some(index) = found else {
                let message = format!("no phantom_token_provider \"{name}\" is defined");
                return Err((message, place));
            };
            let defined = &mut self.providers[index];
            // SAFETY: the location's configuration is in the pool of the configuration that is being read, and
            // nobody else looks at it meanwhile.
            let conf = unsafe { conf.as_mut() };
            let content = match purpose {
                Purpose::Resolve => {
                    defined.used = true;
                    conf.protection = Protection::On(index);
                    continue;
                }
                Purpose::Serve(content) => content(index),
            };
            match content {
                Content::Purge(_) if defined.zone.is_none() => {
                    let mend = match defined.wanted {
                        Wanted::None => "name a zone in its cache_zone instead of off",
                        _ => "define one with phantom_token_zone",
                    };
                    let message = format!(
                        "provider \"{name}\" has no zone, and without one a purge would reach one worker and not the \
                         others: {mend}"
                    );
                    return Err((message, place));
                }
                Content::Purge(_) => defined.used = true,
                Content::Jwks(_) if defined.provider.jwks().is_none() => {
                    let message = format!(
                        "provider \"{name}\" signs nothing and has no keys to publish: set dialect mint and mint_key"
                    );
                    return Err((message, place));
                }
                // Nothing has to be started for it.
                Content::Jwks(_) => {}
            }
            conf.content = Some(content);
        }
        Ok(())
    }
}

/// Lets a location inherit.
pub unsafe extern "C" fn merge_location(
    cf: *mut ngx_conf_t,
    above: *mut c_void,
    conf: *mut c_void,
) -> *mut c_char {
    contained(NGX_CONF_ERROR, || {
        // SAFETY: both are what `create_location` made, they are not the same, and nobody else looks at them
        // meanwhile.
        let (above, conf) = unsafe { (&*above.cast(), &mut *conf.cast::<LocationConf>()) };
        conf.merge(above);
        // SAFETY: nginx calls this with the contexts of the location that is being merged, when its core module has
        // merged its own part; nobody else looks at that meanwhile.
        match unsafe { core_location(cf).as_mut() } {
            Some(core) => merge_content(cf, above, conf, core),
            None => NGX_CONF_ERROR,
        }
    })
}

/// Makes a location that serves something ready for it.
fn merge_content(
    cf: *mut ngx_conf_t,
    above: &LocationConf,
    conf: &mut LocationConf,
    core: &mut ngx_http_core_loc_conf_t,
) -> *mut c_char {
    // `if` and `limit_except` are locations within one, whose handler theirs is unless they have their own.
    if core.noname() != 0 && conf.content.is_none() && core.handler.is_none() {
        conf.content = above.content;
        conf.content_at.clone_from(&above.content_at);
        core.handler = conf.content.map(|content| content.handler() as Handler);
    }
    let Some(content) = conf.content else {
        return NGX_CONF_OK;
    };
    let is_ours = core
        .handler
        .is_some_and(|handler| std::ptr::fn_addr_eq(handler, content.handler()));
    if !is_ours {
        let place = conf.content_at.as_ref().map_or("", |(_, place)| place);
        // SAFETY: nginx gives a valid configuration with its log.
        let log = unsafe { (*cf).log };
        complain(
            log,
            NGX_LOG_EMERG,
            &format!(
                "\"{}\" is in a location that something else handles: give it one of its own",
                content.directive()
            ),
            place,
        );
        return NGX_CONF_ERROR;
    }
    if !matches!(content, Content::Purge(_)) {
        return NGX_CONF_OK;
    }
    // More is refused by nginx itself, in all the ways in which a body arrives.
    const MOST: i64 = MAX_FORM_LENGTH as i64;
    if core.client_max_body_size == 0 || core.client_max_body_size > MOST {
        core.client_max_body_size = MOST;
    }
    // Tokens need not be written to a disk.
    core.client_body_buffer_size = core.client_body_buffer_size.max(MAX_FORM_LENGTH);
    core.client_body_in_file_only = 0;
    NGX_CONF_OK
}
