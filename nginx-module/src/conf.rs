//! Configuration: the directives, the settings that they produce, and how locations inherit them.
//!
//! Everything is checked while nginx reads its configuration, so that a mistake is an error of `nginx -t` with file
//! and line, and nothing is left to go wrong when a request arrives.

mod content;
mod exposure;
mod introspection;
mod location;
mod metrics;
mod policy;
mod provider;
mod resource;
mod sender;
mod text;
mod token;
mod value;
mod zone;

use std::ffi::{c_char, c_void};
use std::hash::{BuildHasher, RandomState};
use std::ptr::{self, NonNull};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ngx::core::{NGX_CONF_ERROR, NGX_CONF_OK};
use ngx::ffi::{
    NGX_CONF_1MORE, NGX_CONF_ANY, NGX_CONF_BLOCK, NGX_CONF_NOARGS, NGX_CONF_TAKE1, NGX_CONF_TAKE2,
    NGX_HTTP_LOC_CONF, NGX_HTTP_LOC_CONF_OFFSET, NGX_HTTP_MAIN_CONF, NGX_HTTP_MAIN_CONF_OFFSET,
    NGX_HTTP_SRV_CONF, NGX_LOG_EMERG, NGX_LOG_WARN, ngx_command_t, ngx_conf_t, ngx_cycle_t,
    ngx_http_conf_ctx_t, ngx_http_handler_pt, ngx_http_module, ngx_log_t, ngx_str_t, ngx_uint_t,
};
use ngx::{ngx_conf_log_error, ngx_log_error, ngx_string};
use phantom_token::Provider;
use phantom_token::gateway::sender::Nonces;
use phantom_token::token::ContextBuilder;
use phantom_token_nginx_conf::{Level, advise};

use crate::nginx::evaluated::{Secrets, Variables};
use crate::nginx::headers::HeaderName;
use crate::nginx::panic::contained;
use crate::nginx::request::Request;
use crate::nginx::{core_location, index, pool, strings};

pub use content::{Content, ContentHandlers};
pub use introspection::Introspection;
pub use location::{LocationConf, Phase, Preflight, Protection};
pub use resource::Resource;
pub use sender::SenderConfig;
pub use token::TokenSources;
pub use value::Value;
pub use zone::ZoneConf;

const IN_HTTP: ngx_uint_t = NGX_HTTP_MAIN_CONF as ngx_uint_t;
const IN_LOCATION: ngx_uint_t = NGX_HTTP_LOC_CONF as ngx_uint_t;
const ANYWHERE: ngx_uint_t =
    (NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF) as ngx_uint_t;
const BLOCK: ngx_uint_t = NGX_CONF_BLOCK as ngx_uint_t;
const NONE: ngx_uint_t = NGX_CONF_NOARGS as ngx_uint_t;
const ONE: ngx_uint_t = NGX_CONF_TAKE1 as ngx_uint_t;
const TWO: ngx_uint_t = NGX_CONF_TAKE2 as ngx_uint_t;
const ANY: ngx_uint_t = NGX_CONF_ANY as ngx_uint_t;
const SOME: ngx_uint_t = NGX_CONF_1MORE as ngx_uint_t;

/// The function that applies a location directive, given its name and its arguments.
type Set = fn(*mut ngx_conf_t, &mut LocationConf, &str, &[&str]) -> Result<(), DirectiveError>;

/// Why a directive is refused.
pub enum DirectiveError {
    /// The directive is a duplicate: nginx has its own message for that.
    Duplicate,
    /// nginx has logged the error already.
    Said,
    /// The error, and how to fix it. nginx adds file and line.
    Message(String),
}

impl From<String> for DirectiveError {
    fn from(message: String) -> Self {
        DirectiveError::Message(message)
    }
}

impl From<&str> for DirectiveError {
    fn from(message: &str) -> Self {
        DirectiveError::Message(message.to_owned())
    }
}

/// A directive of a location.
const fn of_location(name: ngx_str_t, type_: ngx_uint_t, set: Set) -> ngx_command_t {
    ngx_command_t {
        name,
        type_,
        set: Some(set_in_location),
        conf: NGX_HTTP_LOC_CONF_OFFSET,
        offset: 0,
        // For `set_in_location`: nginx does not use this field.
        post: set as *mut c_void,
    }
}

/// The directives.
pub static mut COMMANDS: [ngx_command_t; 33] = [
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
    of_location(
        ngx_string!("phantom_token"),
        ANYWHERE | SOME,
        location::provider,
    ),
    of_location(
        ngx_string!("phantom_token_introspection_endpoint"),
        ANYWHERE | ONE,
        introspection::endpoint,
    ),
    of_location(
        ngx_string!("phantom_token_cache_key"),
        ANYWHERE | ONE,
        introspection::cache_key,
    ),
    of_location(
        ngx_string!("phantom_token_pass_opaque"),
        ANYWHERE | ONE,
        token::pass_opaque,
    ),
    of_location(
        ngx_string!("phantom_token_scopes_enforce"),
        ANYWHERE | ONE,
        policy::part,
    ),
    of_location(
        ngx_string!("phantom_token_realm"),
        ANYWHERE | ONE,
        location::realm,
    ),
    of_location(
        ngx_string!("phantom_token_preflight"),
        ANYWHERE | ONE,
        location::preflight,
    ),
    of_location(
        ngx_string!("phantom_token_phase"),
        ANYWHERE | ONE,
        location::phase,
    ),
    of_location(
        ngx_string!("phantom_token_scopes"),
        ANYWHERE | SOME,
        policy::part,
    ),
    of_location(
        ngx_string!("phantom_token_scope"),
        ANYWHERE | ONE,
        policy::part,
    ),
    of_location(
        ngx_string!("phantom_token_audience"),
        ANYWHERE | SOME,
        policy::part,
    ),
    of_location(
        ngx_string!("phantom_token_issuer"),
        ANYWHERE | SOME,
        policy::part,
    ),
    of_location(
        ngx_string!("phantom_token_client"),
        ANYWHERE | SOME,
        policy::part,
    ),
    of_location(
        ngx_string!("phantom_token_require"),
        ANYWHERE | SOME,
        policy::part,
    ),
    of_location(
        ngx_string!("phantom_token_max_age"),
        ANYWHERE | ONE,
        policy::part,
    ),
    of_location(
        ngx_string!("phantom_token_acr"),
        ANYWHERE | SOME,
        policy::part,
    ),
    of_location(
        ngx_string!("phantom_token_sender_constraint"),
        ANYWHERE | ONE,
        sender::constraint,
    ),
    of_location(
        ngx_string!("phantom_token_dpop_window"),
        ANYWHERE | ONE,
        sender::window,
    ),
    of_location(
        ngx_string!("phantom_token_dpop_nonce"),
        ANYWHERE | ONE,
        sender::nonce,
    ),
    of_location(
        ngx_string!("phantom_token_dpop_uri"),
        ANYWHERE | ONE,
        sender::uri,
    ),
    of_location(
        ngx_string!("phantom_token_client_certificate"),
        ANYWHERE | ONE,
        sender::certificate,
    ),
    of_location(
        ngx_string!("phantom_token_source"),
        ANYWHERE | SOME,
        token::source,
    ),
    of_location(
        ngx_string!("phantom_token_forward"),
        ANYWHERE | SOME,
        token::forward,
    ),
    of_location(
        ngx_string!("phantom_token_set_header"),
        ANYWHERE | TWO,
        token::set_header,
    ),
    of_location(
        ngx_string!("phantom_token_optional"),
        ANYWHERE | ONE,
        token::optional,
    ),
    of_location(
        ngx_string!("phantom_token_resource"),
        ANYWHERE | ONE,
        resource::identifier,
    ),
    of_location(
        ngx_string!("phantom_token_resource_metadata"),
        IN_LOCATION | ANY,
        resource::metadata,
    ),
    of_location(
        ngx_string!("phantom_token_purge"),
        IN_LOCATION | ONE,
        content::purge,
    ),
    of_location(
        ngx_string!("phantom_token_jwks"),
        IN_LOCATION | ONE,
        content::jwks,
    ),
    of_location(
        ngx_string!("phantom_token_status"),
        IN_LOCATION | NONE,
        content::status,
    ),
    ngx_command_t::empty(),
];

/// The main configuration: one per `http` block.
#[derive(Default)]
pub struct MainConf {
    /// The providers, in the order of their definition; a location knows its own by the place in here.
    pub providers: Vec<ProviderEntry>,
    /// The zones, in the order of their definition.
    pub zones: Vec<Rc<ZoneConf>>,
    /// The longest window that a location accepts DPoP proofs for.
    pub proof_window: Duration,
    /// The nonces that clients get for their proofs. All workers know the same; a reload makes new ones, and clients ask
    /// for one.
    pub nonces: Option<Arc<Nonces>>,
    /// The values with variables that claims are compared with: a policy refers to each by its index here.
    pub values: Vec<Value>,
    uses: Vec<Use>,
    /// The handlers of the locations whose content the module generates.
    pub handlers: ContentHandlers,
    /// How variables get their values.
    pub variables: Variables,
    /// Whether any location takes headers of the client's out before its rewrite phase.
    pub strips_headers: bool,
    /// The handler of nginx's rewrite module, where ours stands before it.
    pub rewrite: ngx_http_handler_pt,
    seen: exposure::Seen,
    /// A digest of the configuration's text, there if a location introspects.
    pub text: Option<ContextBuilder>,
    /// Where workers add up what they count; there if there is a provider.
    pub shared: Option<Rc<metrics::Shared>>,
}

impl MainConf {
    /// The main configuration while directives are read.
    ///
    /// # Safety
    /// `cf` must be valid, and inside `http`.
    pub unsafe fn of_conf(cf: *mut ngx_conf_t) -> Option<NonNull<MainConf>> {
        // SAFETY: inside `http`, the context is of this type and has a slot per module.
        unsafe {
            let context = (*cf).ctx.cast::<ngx_http_conf_ctx_t>();
            NonNull::new((*(*context).main_conf.add(index())).cast())
        }
    }

    /// The main configuration of a cycle; `None` when it has no `http`.
    ///
    /// # Safety
    /// `cycle` must be valid.
    pub unsafe fn of_cycle(cycle: *mut ngx_cycle_t) -> Option<NonNull<MainConf>> {
        // SAFETY: a cycle has a slot per module, and that of `http` is NULL or of this type.
        unsafe {
            let http = (*ptr::addr_of!(ngx_http_module)).index;
            let context = (*(*cycle).conf_ctx.add(http)).cast::<ngx_http_conf_ctx_t>();
            let context = context.as_ref()?;
            NonNull::new((*context.main_conf.add(index())).cast())
        }
    }
}

impl MainConf {
    /// The main configuration of a request.
    pub fn of<'a>(request: Request) -> Option<&'a Self> {
        // SAFETY: nginx has one slot per module here, and ours holds what `create_main` made. It does not change while
        // requests are served, and the configuration outlives its requests.
        unsafe {
            let conf = *(*request.as_ptr()).main_conf.add(index());
            conf.cast::<MainConf>().as_ref()
        }
    }
}

impl LocationConf {
    /// The configuration of the location that a request is in.
    pub fn of<'a>(request: Request) -> Option<&'a Self> {
        // SAFETY: nginx has one slot per module here, and ours holds what `create_location` made. It does not change while
        // requests are served, and the configuration outlives its requests.
        unsafe {
            let conf = *(*request.as_ptr()).loc_conf.add(index());
            conf.cast::<LocationConf>().as_ref()
        }
    }
}

/// The variables of a request's configuration.
pub fn variables(request: Request) -> Option<&'static Variables> {
    MainConf::of(request).map(|main| &main.variables)
}

/// Forgets the values of variables that were computed from the request as it was, and those that hold a secret.
pub fn forget(request: Request, secrets: Secrets) {
    if let Some(variables) = variables(request) {
        variables.forget(request, secrets);
    }
}

/// A provider of the configuration.
pub struct ProviderEntry {
    /// The provider's settings.
    pub provider: Arc<Provider>,
    /// Whether any location uses it: nothing is started for one that none uses.
    pub used: bool,
    /// The zone of the shared cache; `None`: each worker has its own cache only.
    pub zone: Option<Rc<ZoneConf>>,
    /// Where tokens are introspected, if a location does that; what is set of the provider then is all default.
    pub introspection: Option<Introspection>,
    /// The value of `cache_zone`, resolved when all zones are known.
    wanted: ZoneChoice,
    /// The place where the block ends.
    place: String,
}

/// The value of `cache_zone`.
#[derive(Default)]
enum ZoneChoice {
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

/// The purpose for which a location uses a provider.
enum Purpose {
    Resolve,
    /// The same, if the request chooses it.
    Allow,
    Serve(fn(usize) -> Content),
}

/// The arguments of a directive, its name first.
///
/// # Safety
/// `cf` must be what nginx gave to the handler of a directive; the arguments live as long as the configuration.
unsafe fn arguments<'a>(cf: *mut ngx_conf_t) -> Vec<&'a [u8]> {
    // SAFETY: nginx fills `args` with `ngx_str_t` before it calls the handler.
    let arguments = unsafe { (*(*cf).args).as_slice::<ngx_str_t>() };
    arguments
        .iter()
        // SAFETY: nginx made them, in the pool of the configuration.
        .map(|argument| unsafe { strings::bytes(argument) })
        .collect()
}

/// The text of an argument, or `None` when it is not UTF-8.
fn text(argument: &[u8]) -> Option<&str> {
    std::str::from_utf8(argument).ok()
}

/// Says what is wrong with a directive, with file and line, and refuses it.
fn refuse(cf: *mut ngx_conf_t, message: &str) -> *mut c_char {
    ngx_conf_log_error!(NGX_LOG_EMERG, cf, "{message}");
    NGX_CONF_ERROR
}

/// The handler of every directive that [`of_location`] makes.
unsafe extern "C" fn set_in_location(
    cf: *mut ngx_conf_t,
    command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    contained(NGX_CONF_ERROR, || {
        // SAFETY: nginx hands back the command, and `post` of one whose handler this is was made of a `Set` by
        // `of_location`: function and data pointers are of one size wherever nginx runs.
        let set = unsafe { std::mem::transmute::<*mut c_void, Set>((*command).post) };
        // SAFETY: `conf` is what `create_location` made, as the table says, and nobody else looks at it while a
        // directive is read.
        let conf = unsafe { &mut *conf.cast::<LocationConf>() };
        // SAFETY: nginx calls the handler with the arguments set.
        let arguments = unsafe { arguments(cf) };
        let Some(arguments) = arguments.into_iter().map(text).collect::<Option<Vec<_>>>() else {
            return refuse(cf, "the directive's arguments are not UTF-8");
        };
        let Some((name, values)) = arguments.split_first() else {
            return NGX_CONF_ERROR;
        };
        match set(cf, conf, name, values) {
            Ok(()) => {
                if conf.written.is_none() && !exposure::ALONE.contains(name) {
                    // SAFETY: `cf` is valid while a directive is read.
                    let place = unsafe { place(cf) };
                    conf.written = Some(((*name).into(), place.into()));
                }
                NGX_CONF_OK
            }
            Err(DirectiveError::Said) => NGX_CONF_ERROR,
            Err(DirectiveError::Duplicate) => c"is duplicate".as_ptr().cast_mut(),
            Err(DirectiveError::Message(message)) => refuse(cf, &message),
        }
    })
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
) -> Result<(), DirectiveError> {
    // SAFETY: the caller's promise; the module's main configuration was made before the first directive was read, and
    // `location` is no part of it.
    unsafe {
        let Some(main) = MainConf::of_conf(cf) else {
            return Err("it is outside of http".into());
        };
        (*main.as_ptr()).uses.push(Use {
            name: name.to_owned(),
            place: place(cf),
            purpose,
            conf: NonNull::from(location),
        });
    }
    Ok(())
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
                String::from_utf8_lossy(strings::bytes(&file.file.name)),
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
        let found = main
            .find_zones()
            .and_then(|()| main.find_providers())
            .and_then(|()| main.refuse_blended_subjects());
        if let Err((message, place)) = found {
            complain(log, NGX_LOG_EMERG, &message, &place);
            return NGX_CONF_ERROR;
        }
        NGX_CONF_OK
    })
}

/// Steps that are possible only when all has been merged, because a location may bring a provider of its own: the memory of
/// what is counted, and whether each zone is used by as many providers as it has room for. Returns whether the
/// configuration may be used.
///
/// # Safety
/// `cf` must be valid, and inside `http`, whose block has been read.
pub unsafe fn finish(cf: *mut ngx_conf_t) -> bool {
    // SAFETY: the caller's promise; nobody else looks at the main configuration meanwhile.
    let Some(main) = (unsafe { MainConf::of_conf(cf).map(|main| &mut *main.as_ptr()) }) else {
        return false;
    };
    if !main.providers.is_empty() {
        // SAFETY: `cf` is valid, and `main` a part of the configuration that is being read.
        main.shared = unsafe { metrics::Shared::define(cf) };
        if main.shared.is_none() {
            return false;
        }
    }
    // SAFETY: nginx gives a valid configuration with its log.
    let log = unsafe { (*cf).log };
    // SAFETY: nginx finishes with the contexts of `http`, of which each module has a slot; ours holds what
    // `create_location` made, and nobody changes it any more.
    let http = unsafe {
        let context = (*cf).ctx.cast::<ngx_http_conf_ctx_t>();
        &*(*(*context).loc_conf.add(index())).cast::<LocationConf>()
    };
    if let Err((message, place)) = main
        .seen
        .check_servers(http)
        .and_then(|()| main.check_introspection())
    {
        complain(log, NGX_LOG_EMERG, &message, &place);
        return false;
    }
    if !main.providers.is_empty() || main.seen.content {
        // SAFETY: `cf` is valid.
        let text = unsafe { text::Text::read(cf) };
        let mut refused = false;
        for advice in text
            .as_ref()
            .map_or(Vec::new(), |text| advise(&text.directives))
        {
            let level = match advice.level {
                Level::Error => NGX_LOG_EMERG,
                Level::Warning => NGX_LOG_WARN,
            };
            complain(log, level, &advice.message, &advice.place);
            refused |= advice.level == Level::Error;
        }
        if refused {
            return false;
        }
        main.text = Some(text.map_or_else(unique, |text| text.digest));
    }
    for zone in &main.zones {
        // One is the list's.
        let providers = Rc::strong_count(zone) - 1;
        let (level, message) = match providers {
            0 => (NGX_LOG_WARN, "is used by no provider".to_owned()),
            1..=ZoneConf::MAX_PROVIDERS => continue,
            _ => (
                NGX_LOG_EMERG,
                format!(
                    "has room for {} providers, and {providers} use it: give some of them another with cache_zone",
                    ZoneConf::MAX_PROVIDERS
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
            return false;
        }
    }
    true
}

/// A unique substitute for a configuration text that can't be read again. It equals no other, so that nothing is shared
/// with another configuration.
fn unique() -> ContextBuilder {
    let random = || {
        RandomState::new()
            .hash_one(std::process::id())
            .to_ne_bytes()
    };
    let mut unique = ContextBuilder::default();
    unique.add(b"unique").add(&random()).add(&random());
    unique
}

/// Says what is wrong at a place of the configuration that has been read already.
fn complain(log: *mut ngx_log_t, level: u32, message: &str, place: &str) {
    ngx_log_error!(level, log, "{message} in {place}");
}

impl MainConf {
    /// Refuses providers whose minted JWTs can't be told apart. The error is a message and the place that it is about.
    fn refuse_blended_subjects(&self) -> Result<(), (String, String)> {
        for (index, defined) in self.providers.iter().enumerate() {
            let before = self.providers[..index].iter().filter(|before| before.used);
            let mut blended = before.filter_map(|one| defined.provider.blends_with(&one.provider));
            if let Some(message) = blended.next().filter(|_| defined.used) {
                return Err((message, defined.place.clone()));
            }
        }
        Ok(())
    }

    /// Finds each provider's zone. The error is a message and the place that it is about.
    fn find_zones(&mut self) -> Result<(), (String, String)> {
        for defined in &mut self.providers {
            defined.zone = match &defined.wanted {
                ZoneChoice::None => None,
                ZoneChoice::Named { name, place } => {
                    let found = self.zones.iter().find(|zone| zone.name() == name);
                    let Some(zone) = found else {
                        let message = format!("no phantom_token_zone \"{name}\" is defined");
                        return Err((message, place.clone()));
                    };
                    Some(Rc::clone(zone))
                }
                ZoneChoice::Any => match self.zones.as_slice() {
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
                Purpose::Allow => {
                    defined.used = true;
                    conf.token.allow(index);
                    continue;
                }
                Purpose::Serve(content) => content(index),
            };
            match content {
                Content::Purge(_) if defined.zone.is_none() => {
                    let mend = match defined.wanted {
                        ZoneChoice::None => "name a zone in its cache_zone instead of off",
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
                Content::Jwks(_) | Content::Status | Content::Metadata => {}
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
        if let Err((message, place)) = introspection::merge(cf, above, conf) {
            // SAFETY: nginx gives a valid configuration with its log.
            complain(unsafe { (*cf).log }, NGX_LOG_EMERG, &message, &place);
            return NGX_CONF_ERROR;
        }
        // SAFETY: the module's main configuration was made first, and nobody else looks at it meanwhile.
        let Some(main) = (unsafe { MainConf::of_conf(cf).map(|mut main| main.as_mut()) }) else {
            return NGX_CONF_ERROR;
        };
        let uri = conf.resource.uri(cf);
        conf.sender.follow(&above.sender, uri);
        let own = match conf.merge(above, &mut main.nonces) {
            Ok(own) => own,
            Err(message) => return refuse(cf, message),
        };
        if conf.protection.is_on() {
            main.proof_window = main.proof_window.max(conf.sender.rules().window);
        }
        // SAFETY: nginx gives a valid configuration with its log.
        let log = unsafe { (*cf).log };
        if let Err((message, place)) = conf.token.merge(&above.token, conf.protection) {
            complain(log, NGX_LOG_EMERG, &message, &place);
            return NGX_CONF_ERROR;
        }
        conf.make_policy(above, own);
        let values = &main.values;
        let chosen_by = conf.token.choice().map(|choice| &choice.value);
        let is_read = |name: &HeaderName| {
            let mut values = values.iter().chain(chosen_by).flat_map(Value::headers);
            values.any(|header| header.is_same(name)) || conf.sender.reads(name)
        };
        let stripped = conf.token.stripped_beside(is_read);
        conf.token.strip(&above.token, stripped);
        main.strips_headers |= !conf.token.stripped().is_empty();
        if let Err(message) = resource::finish(conf, main) {
            let place = conf.content_at.as_ref().map_or("", |(_, place)| place);
            complain(log, NGX_LOG_EMERG, &message, place);
            return NGX_CONF_ERROR;
        }
        // SAFETY: nginx calls this with the contexts of the location that is being merged, when its core module has
        // merged its own part; nobody else looks at that meanwhile.
        let Some(core) = (unsafe { core_location(cf).as_mut() }) else {
            return NGX_CONF_ERROR;
        };
        let merged = content::merge(cf, above, conf, core, &main.handlers);
        if merged != NGX_CONF_OK {
            return merged;
        }
        if let Err((message, place)) = main.seen.note(cf, conf, core) {
            complain(log, NGX_LOG_EMERG, &message, &place);
            return NGX_CONF_ERROR;
        }
        NGX_CONF_OK
    })
}
