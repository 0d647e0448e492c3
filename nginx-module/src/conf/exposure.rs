//! Checks for locations left open although requirements are set there, and for introspection without a target: made when all
//! servers and locations have been merged.

use std::ptr;

use ngx::ffi::{
    ngx_conf_t, ngx_http_conf_ctx_t, ngx_http_core_loc_conf_t, ngx_http_core_module,
    ngx_http_core_srv_conf_t,
};

use super::{Content, LocationConf, Protection};
use crate::nginx::{bits, index, strings};

/// Directives that say something where no token is resolved.
pub const ALONE: [&str; 6] = [
    // It says whether one is.
    "phantom_token",
    // They serve something themselves.
    "phantom_token_purge",
    "phantom_token_jwks",
    "phantom_token_status",
    "phantom_token_resource_metadata",
    // It is for locations that resolve none.
    "phantom_token_pass_opaque",
];

/// A directive, and where it is.
pub type Written = (Box<str>, Box<str>);

/// A message, and the place that it is about.
pub type Mistake = (String, String);

/// The state of the servers, collected while they are merged.
#[derive(Default)]
pub struct Seen {
    servers: Vec<Server>,
    /// A location shows or forgets something.
    pub content: bool,
}

struct Server {
    /// An address to compare with.
    of: *const ngx_http_core_srv_conf_t,
    /// A location of it resolves tokens, or says of others that they do.
    is_protected: bool,
    /// It says that no token is resolved, or what is above it does.
    is_off: bool,
    written: Option<Written>,
    /// The names of its locations that have a URI.
    locations: Vec<Box<str>>,
}

impl Seen {
    /// Notes a level that has been merged: a server, a location, or what is within one.
    ///
    /// # Errors
    /// When it asks something of tokens that nobody resolves there.
    pub fn note(
        &mut self,
        cf: *mut ngx_conf_t,
        conf: &LocationConf,
        core: &ngx_http_core_loc_conf_t,
    ) -> Result<(), Mistake> {
        // SAFETY: nginx merges with a valid configuration and the contexts of the server whose level this is. A server has
        // contexts of its own, with a slot per module.
        let (server, is_server, name) = unsafe {
            let context = (*cf).ctx.cast::<ngx_http_conf_ctx_t>();
            let place = (*ptr::addr_of!(ngx_http_core_module)).ctx_index;
            let server = (*(*context).srv_conf.add(place)).cast::<ngx_http_core_srv_conf_t>();
            let own = *(*(*server).ctx).loc_conf.add(index());
            let is_prefix = bits::core_location::is_prefix(core) != 0;
            let name = is_prefix.then(|| String::from_utf8_lossy(strings::bytes(&core.name)));
            (server.cast_const(), ptr::eq(own.cast(), conf), name)
        };
        let server = self.server(server);
        server.is_protected |= conf.protection.is_on() || conf.content == Some(Content::Metadata);
        if is_server {
            server.written.clone_from(&conf.written);
            server.is_off = conf.protection == Protection::Off;
        } else if let Some(name) = name {
            server.locations.push(name.into());
        }
        let is_open = conf.protection == Protection::Unset;
        self.content |= conf.content.is_some();
        match &conf.written {
            Some((directive, place)) if is_open && !is_server => {
                Err((open(directive, "here"), place.to_string()))
            }
            _ => Ok(()),
        }
    }

    fn server(&mut self, of: *const ngx_http_core_srv_conf_t) -> &mut Server {
        let place = self
            .servers
            .iter()
            .rposition(|server| ptr::eq(server.of, of));
        let place = place.unwrap_or_else(|| {
            self.servers.push(Server {
                of,
                is_protected: false,
                is_off: false,
                written: None,
                locations: Vec::new(),
            });
            self.servers.len() - 1
        });
        &mut self.servers[place]
    }

    /// Checks for requirements in servers, or in `http`, where nothing resolves tokens.
    ///
    /// # Errors
    /// The first such requirement.
    pub fn check_servers(&self, http: &LocationConf) -> Result<(), Mistake> {
        let is_open = |server: &&Server| !server.is_protected && !server.is_off;
        for server in self.servers.iter().filter(is_open) {
            if let Some((directive, place)) = &server.written {
                let message = open(directive, "in this server or its locations");
                return Err((message, place.to_string()));
            }
        }
        let in_vain = !self.servers.iter().any(|server| server.is_protected)
            && (self.servers.is_empty() || self.servers.iter().any(|server| is_open(&server)));
        match &http.written {
            Some((directive, place)) if in_vain && http.protection == Protection::Unset => {
                Err((open(directive, "in any server"), place.to_string()))
            }
            _ => Ok(()),
        }
    }

    /// Whether a server has a location of this name.
    ///
    /// # Errors
    /// The error, and the location that may be meant.
    pub fn check_location(
        &self,
        of: *const ngx_http_core_srv_conf_t,
        name: &str,
    ) -> Result<(), String> {
        let locations = self
            .servers
            .iter()
            .find(|server| ptr::eq(server.of, of))
            .map_or(&[][..], |server| &server.locations);
        if locations.iter().any(|known| **known == *name) {
            return Ok(());
        }
        let plain = |name: &str| name.trim_matches('/').to_ascii_lowercase();
        let mend = match locations.iter().find(|known| plain(known) == plain(name)) {
            Some(meant) => format!("there is \"{meant}\": write it to the letter"),
            None => "write it as \"location\" has it, to the letter".to_owned(),
        };
        Err(format!(
            "there is no location \"{name}\" in this server to introspect tokens; {mend}"
        ))
    }
}

fn open(directive: &str, place: &str) -> String {
    format!(
        "\"{directive}\" protects nothing, because no \"phantom_token\" is set {place}: write \"phantom_token NAME;\" beside \
         it, or \"phantom_token off;\" where everybody may pass"
    )
}
