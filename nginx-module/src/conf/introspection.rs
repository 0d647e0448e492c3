//! `phantom_token on` and `phantom_token_introspection_endpoint`: tokens are introspected by a location of the operator's.
//!
//! There is a provider for each such location of each server, made when it is first used: a location's name means
//! something in its server only, so that two servers never share what is remembered, even if theirs have the same name.

use std::fmt::Write as _;
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ngx::ffi::{
    ngx_array_t, ngx_conf_t, ngx_http_conf_addr_t, ngx_http_conf_ctx_t, ngx_http_conf_port_t,
    ngx_http_core_main_conf_t, ngx_http_core_module, ngx_http_core_srv_conf_t,
    ngx_http_server_name_t,
};
use phantom_token::Config;
use phantom_token::config::HostEndpoint;

use super::exposure::Mistake;
use super::location::once;
use super::{
    DirectiveError, LocationConf, MainConf, Protection, ProviderEntry, Value, ZoneChoice, place,
};
use crate::nginx::strings;

/// The whole time that one introspection may take. The timeouts of the location itself are what an operator sets; this is
/// for what none of them bounds.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Where a provider introspects tokens that a location does it for.
pub struct Introspection {
    /// The name of the location.
    pub location: Box<str>,
    /// Where it says so.
    endpoint_at: Arc<str>,
    /// Whose it is: an address to compare with.
    server: *const ngx_http_core_srv_conf_t,
    identity: String,
}

/// `phantom_token_introspection_endpoint LOCATION`
pub fn endpoint(
    cf: *mut ngx_conf_t,
    location: &mut LocationConf,
    directive: &str,
    values: &[&str],
) -> Result<(), DirectiveError> {
    let name = values.first().copied().unwrap_or_default();
    let refusal = if name.is_empty() {
        "needs the name of a location"
    } else if name.contains("://") {
        "takes the name of a location of this server; for a URL define a phantom_token_provider with \
         introspection_endpoint"
    } else if name.starts_with('@') {
        "takes a location that has a URI, and no named one: write its name without @ here and there, and make it \
         internal"
    } else if name.chars().any(char::is_control) {
        "must not contain control characters"
    } else {
        // SAFETY: `cf` is what nginx gave to the handler of the directive.
        let place = unsafe { place(cf) };
        let endpoint = (Arc::from(name), place.into());
        return once(&mut location.introspection_endpoint, endpoint);
    };
    Err(format!("\"{directive}\" {refusal}").into())
}

/// `phantom_token_cache_key TEXT`
pub fn cache_key(
    cf: *mut ngx_conf_t,
    location: &mut LocationConf,
    _: &str,
    values: &[&str],
) -> Result<(), DirectiveError> {
    let text = values.first().copied().unwrap_or_default();
    let value = Value::compile(cf, text)?;
    once(&mut location.cache_key, Rc::new(value))
}

/// Lets a location inherit whether it introspects by a location and by which, and finds or makes the provider for that.
/// The error is a message and the place that it is about.
pub fn merge(
    cf: *mut ngx_conf_t,
    above: &LocationConf,
    conf: &mut LocationConf,
) -> Result<(), (String, String)> {
    if conf.introspection_endpoint.is_none() {
        conf.introspection_endpoint
            .clone_from(&above.introspection_endpoint);
    }
    if conf.cache_key.is_none() {
        conf.cache_key.clone_from(&above.cache_key);
    }
    if conf.protection == Protection::Unset {
        conf.protection = above.protection;
        conf.on_at.clone_from(&above.on_at);
    }
    let Some(place) = &conf.on_at else {
        return Ok(());
    };
    let Some((location, endpoint_at)) = &conf.introspection_endpoint else {
        return Err((
            "\"phantom_token on\" needs to know which location introspects tokens: write \
             \"phantom_token_introspection_endpoint NAME;\" beside it, or instead of \"on\" the name of a \
             phantom_token_provider"
                .to_owned(),
            place.to_string(),
        ));
    };
    // SAFETY: nginx merges with a valid configuration and the contexts of the server whose location this is; the main
    // configuration was made before, and nobody else looks at it meanwhile.
    let index = unsafe {
        let Some(mut main) = MainConf::of_conf(cf) else {
            return Err(("it is outside of http".to_owned(), place.to_string()));
        };
        let context = (*cf).ctx.cast::<ngx_http_conf_ctx_t>();
        let core = (*ptr::addr_of!(ngx_http_core_module)).ctx_index;
        let server = (*(*context).srv_conf.add(core)).cast::<ngx_http_core_srv_conf_t>();
        let http = (*(*context).main_conf.add(core)).cast::<ngx_http_core_main_conf_t>();
        main.as_mut()
            .provider_by(&*http, &*server, location, place, endpoint_at)
    };
    conf.protection = Protection::On(index.map_err(|message| (message, place.to_string()))?);
    Ok(())
}

impl MainConf {
    /// The place of the provider that a location of a server introspects for.
    fn provider_by(
        &mut self,
        http: &ngx_http_core_main_conf_t,
        server: &ngx_http_core_srv_conf_t,
        location: &str,
        place: &str,
        endpoint_at: &Arc<str>,
    ) -> Result<usize, String> {
        let by_location = |defined: &ProviderEntry, of: *const ngx_http_core_srv_conf_t| {
            let by = defined.introspection.as_ref();
            by.is_some_and(|by| ptr::eq(by.server, of) && *by.location == *location)
        };
        let found = self
            .providers
            .iter()
            .position(|defined| by_location(defined, server));
        if let Some(index) = found {
            return Ok(index);
        }
        let zone = match self.zones.as_slice() {
            [] => None,
            [zone] => Some(Rc::clone(zone)),
            _ => {
                return Err(
                    "there are several zones, and \"phantom_token on\" cannot say which one: leave one \
                     phantom_token_zone, or write the name of a phantom_token_provider with cache_zone instead of \"on\""
                        .to_owned(),
                );
            }
        };
        let name = Self::unique(format!("{location}@{}", name_of(server)), |name| {
            self.providers
                .iter()
                .any(|defined| defined.provider.name() == name)
        });
        // Servers that are alike to the last address are told apart by their order.
        let identity = Self::unique(identity(http, server, location), |identity| {
            let known = |defined: &ProviderEntry| {
                let by = defined.introspection.as_ref();
                by.is_some_and(|by| by.identity == identity)
            };
            self.providers.iter().any(known)
        });
        let mut config = Config::new(name);
        config.host_endpoint = Some(HostEndpoint {
            shown: format!("location \"{location}\" of server {}", name_of(server)),
            identity: identity.clone(),
        });
        config.timeout = TIMEOUT;
        // It is nginx's business how to try again (`proxy_next_upstream`).
        config.retries = 0;
        let provider = config.build().map_err(|error| error.to_string())?;
        self.providers.push(ProviderEntry {
            provider,
            used: true,
            zone,
            wanted: ZoneChoice::Any,
            introspection: Some(Introspection {
                location: location.into(),
                endpoint_at: Arc::clone(endpoint_at),
                server,
                identity,
            }),
            place: place.to_owned(),
        });
        Ok(self.providers.len() - 1)
    }

    /// Whether all locations are there that introspect.
    ///
    /// # Errors
    /// That one is not, with the place that names it.
    pub(super) fn check_introspection(&self) -> Result<(), Mistake> {
        let by = self.providers.iter();
        for by in by.filter_map(|defined| defined.introspection.as_ref()) {
            self.seen
                .check_location(by.server, &by.location)
                .map_err(|message| (message, by.endpoint_at.to_string()))?;
        }
        Ok(())
    }

    /// A text that is not there yet.
    fn unique(text: String, known: impl Fn(&str) -> bool) -> String {
        let mut unique = text.clone();
        let mut number = 2;
        while known(&unique) {
            unique = format!("{text}#{number}");
            number += 1;
        }
        unique
    }
}

/// The name of a server in messages: its first name or, where it has none, its place in the configuration.
fn name_of(server: &ngx_http_core_srv_conf_t) -> String {
    // SAFETY: nginx has made it, in the pool of the configuration.
    let name = String::from_utf8_lossy(unsafe { strings::bytes(&server.server_name) });
    if !name.is_empty() && !name.contains(char::is_control) {
        return name.into_owned();
    }
    format!("_:{}", server.line)
}

/// An identity for the location of a server, unique in this configuration and stable in the next: the server's names, where
/// it listens, and the location's name, each with its length before it.
fn identity(
    http: &ngx_http_core_main_conf_t,
    server: &ngx_http_core_srv_conf_t,
    location: &str,
) -> String {
    let mut parts = Vec::new();
    // SAFETY: nginx has read the configuration; these are its own lists, of these types, NULL where there is nothing.
    unsafe {
        for name in server.server_names.as_slice::<ngx_http_server_name_t>() {
            parts.push(format!(
                "name {}",
                String::from_utf8_lossy(strings::bytes(&name.name))
            ));
        }
        let ports: Option<&ngx_array_t> = http.ports.as_ref();
        for port in ports.map_or(&[][..], |ports| ports.as_slice::<ngx_http_conf_port_t>()) {
            for address in port.addrs.as_slice::<ngx_http_conf_addr_t>() {
                let servers = address.servers.as_slice::<*mut ngx_http_core_srv_conf_t>();
                if servers.iter().any(|known| ptr::eq(*known, server)) {
                    let text = String::from_utf8_lossy(strings::bytes(&address.opt.addr_text));
                    parts.push(format!("listen {text}"));
                }
            }
        }
    }
    // Their order in the file is no matter.
    parts.sort_unstable();
    parts.push(format!("location {location}"));
    let mut identity = String::new();
    for part in parts {
        let _ = write!(identity, "{}:{part},", part.len());
    }
    identity
}
