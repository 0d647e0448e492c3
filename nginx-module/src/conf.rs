//! What can be configured: the directives, what they leave behind, and how locations inherit it.
//!
//! Everything is checked while nginx reads its configuration, so that a mistake is an error of `nginx -t` with file
//! and line, and nothing is left to go wrong when a request arrives.

mod provider;

use std::ffi::{c_char, c_void};
use std::fmt::Write as _;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;

use ngx::core::{NGX_CONF_ERROR, NGX_CONF_OK};
use ngx::ffi::{
    NGX_CONF_1MORE, NGX_CONF_BLOCK, NGX_CONF_TAKE1, NGX_HTTP_LOC_CONF, NGX_HTTP_LOC_CONF_OFFSET,
    NGX_HTTP_MAIN_CONF, NGX_HTTP_MAIN_CONF_OFFSET, NGX_HTTP_SRV_CONF, NGX_LOG_EMERG, ngx_command_t,
    ngx_conf_t, ngx_str_t, ngx_uint_t,
};
use ngx::{ngx_conf_log_error, ngx_log_error, ngx_string};
use phantom_token::Provider;
use phantom_token::policy::RequiredScopes;

use crate::panic::contained;
use crate::pool;
use crate::worker::Worker;

const IN_HTTP: ngx_uint_t = NGX_HTTP_MAIN_CONF as ngx_uint_t;
const ANYWHERE: ngx_uint_t =
    (NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF) as ngx_uint_t;
const BLOCK: ngx_uint_t = NGX_CONF_BLOCK as ngx_uint_t;
const ONE: ngx_uint_t = NGX_CONF_TAKE1 as ngx_uint_t;
const SOME: ngx_uint_t = NGX_CONF_1MORE as ngx_uint_t;

/// The directives.
pub static mut COMMANDS: [ngx_command_t; 7] = [
    ngx_command_t {
        name: ngx_string!("phantom_token_provider"),
        type_: IN_HTTP | BLOCK | ONE,
        set: Some(provider::block),
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
    ngx_command_t::empty(),
];

/// What there is once per configuration.
#[derive(Default)]
pub struct MainConf {
    /// The providers, in the order of their definition; a location knows its own by the place in here.
    pub providers: Vec<Defined>,
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
}

/// A `phantom_token NAME`, to be checked when all providers are known.
struct Use {
    name: String,
    place: String,
    conf: NonNull<LocationConf>,
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
                // SAFETY: `cf` is valid here, and the module's main configuration was made before the first
                // directive was read; the location's is the one that `conf` is.
                unsafe {
                    let Some(main) = MainConf::of_conf(cf) else {
                        return NGX_CONF_ERROR;
                    };
                    (*main.as_ptr()).uses.push(Use {
                        name: (*name).to_owned(),
                        place: place(cf),
                        conf: NonNull::from(location),
                    });
                }
            }
        }
        NGX_CONF_OK
    };
    // SAFETY: the directive is in the table with the location's configuration.
    unsafe { set_in_location(cf, conf, set) }
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

/// Finds the providers that locations name: all are known now, and nothing has been merged yet.
pub unsafe extern "C" fn init_main(cf: *mut ngx_conf_t, conf: *mut c_void) -> *mut c_char {
    contained(NGX_CONF_ERROR, || {
        // SAFETY: `conf` is what `create_main` made, and nobody else looks at it meanwhile.
        let main = unsafe { &mut *conf.cast::<MainConf>() };
        for Use {
            name,
            place,
            mut conf,
        } in std::mem::take(&mut main.uses)
        {
            let found = main
                .providers
                .iter()
                .position(|defined| defined.provider.name() == name);
            let Some(index) = found else {
                // SAFETY: nginx gives a valid configuration with its log.
                let log = unsafe { (*cf).log };
                ngx_log_error!(
                    NGX_LOG_EMERG,
                    log,
                    "no phantom_token_provider \"{name}\" is defined in {place}"
                );
                return NGX_CONF_ERROR;
            };
            main.providers[index].used = true;
            // SAFETY: the location's configuration is in the pool of the configuration that is being read, and
            // nobody else looks at it meanwhile.
            unsafe { conf.as_mut() }.protection = Protection::On(index);
        }
        NGX_CONF_OK
    })
}

/// Lets a location inherit.
pub unsafe extern "C" fn merge_location(
    _cf: *mut ngx_conf_t,
    above: *mut c_void,
    conf: *mut c_void,
) -> *mut c_char {
    contained(NGX_CONF_ERROR, || {
        // SAFETY: both are what `create_location` made, they are not the same, and nobody else looks at them
        // meanwhile.
        let (above, conf) = unsafe { (&*above.cast(), &mut *conf.cast::<LocationConf>()) };
        conf.merge(above);
        NGX_CONF_OK
    })
}
