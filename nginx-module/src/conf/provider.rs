//! `phantom_token_provider NAME { key value; … }`: hands the keys to the core crate, which knows what they mean. One is
//! ours: `cache_zone`, because zones are nginx's.

use std::ffi::{CString, c_char, c_void};

use ngx::core::{NGX_CONF_ERROR, NGX_CONF_OK};
use ngx::ffi::{
    NGX_LOG_EMERG, NGX_LOG_WARN, NGX_OK, ngx_command_t, ngx_conf_full_name, ngx_conf_include,
    ngx_conf_parse, ngx_conf_t, ngx_int_t,
};
use ngx::ngx_conf_log_error;
use phantom_token::Config;

use super::{MainConf, ProviderEntry, ZoneChoice, arguments, place, refuse, text};
use crate::nginx::panic::contained;
use crate::nginx::strings::{self, string};

/// A block while it is read.
struct Block {
    config: Config,
    zone: ZoneChoice,
    keys: Vec<String>,
}

/// Reads the block.
pub unsafe extern "C" fn block(
    cf: *mut ngx_conf_t,
    _command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    contained(NGX_CONF_ERROR, || {
        // SAFETY: nginx calls the handler with the arguments set.
        let arguments = unsafe { arguments(cf) };
        let Some(name) = arguments.get(1).and_then(|name| text(name)) else {
            return refuse(cf, "the provider's name is not UTF-8");
        };
        if matches!(name, "" | "on" | "off") || name.chars().any(char::is_control) {
            return refuse(
                cf,
                "a provider needs a name of printable characters that is not \"on\" or \"off\"",
            );
        }
        // SAFETY: `conf` is the module's main configuration, as the table says; nobody else looks at it while this
        // is read, and the reference ends before the block is parsed.
        let known = unsafe { &*conf.cast::<MainConf>() }
            .providers
            .iter()
            .any(|defined| defined.provider.name() == name);
        if known {
            return refuse(cf, &format!("the provider \"{name}\" is defined twice"));
        }

        let mut block = Block {
            config: Config::new(name),
            zone: ZoneChoice::Any,
            keys: Vec::new(),
        };
        // SAFETY: nginx reads a block by being called again with another handler, and wants `cf` back as it was.
        // `block` outlives the call.
        let parsed = unsafe {
            let before = *cf;
            (*cf).handler = Some(setting);
            (*cf).handler_conf = (&raw mut block).cast();
            let parsed = ngx_conf_parse(cf, std::ptr::null_mut());
            *cf = before;
            parsed
        };
        if parsed != NGX_CONF_OK {
            return parsed;
        }

        match block.config.build() {
            Err(error) => refuse(cf, &error.to_string()),
            Ok(provider) => {
                for warning in provider.warnings() {
                    ngx_conf_log_error!(NGX_LOG_WARN, cf, "{warning}");
                }
                // SAFETY: as above; nothing else holds a reference now.
                unsafe { &mut *conf.cast::<MainConf>() }
                    .providers
                    .push(ProviderEntry {
                        provider,
                        used: false,
                        zone: None,
                        wanted: block.zone,
                        introspection: None,
                        // SAFETY: `cf` is valid while a directive is read.
                        place: unsafe { place(cf) },
                    });
                NGX_CONF_OK
            }
        }
    })
}

/// Reads one `key value;` in the block.
unsafe extern "C" fn setting(
    cf: *mut ngx_conf_t,
    command: *mut ngx_command_t,
    conf: *mut c_void,
) -> *mut c_char {
    contained(NGX_CONF_ERROR, || {
        // SAFETY: nginx calls the handler with the arguments set.
        let arguments = unsafe { arguments(cf) };
        let Some((key, values)) = arguments.split_first() else {
            return NGX_CONF_ERROR;
        };
        if *key == b"include" {
            if values.len() != 1 {
                return refuse(cf, "invalid number of arguments in \"include\" directive");
            }
            // SAFETY: `include` has its one argument, the command is not looked at, and `cf` keeps this handler for
            // what the file holds.
            return unsafe { ngx_conf_include(cf, command, conf) };
        }
        let Some(key) = text(key) else {
            return refuse(cf, "the name of the setting is not UTF-8");
        };
        // SAFETY: `conf` is the `Block` that `block` set as `handler_conf`, and it alone uses it meanwhile.
        let block = unsafe { &mut *conf.cast::<Block>() };
        if block.keys.iter().any(|known| known == key) {
            ngx_conf_log_error!(NGX_LOG_EMERG, cf, "\"{key}\" is duplicate");
            return NGX_CONF_ERROR;
        }
        if values.is_empty() {
            return refuse(cf, &format!("\"{key}\" needs a value"));
        }
        if key == "cache_zone" {
            block.zone = match values {
                [name] if *name == b"off" => ZoneChoice::None,
                [name] if !name.is_empty() => match text(name) {
                    Some(name) => ZoneChoice::Named {
                        name: name.to_owned(),
                        // SAFETY: `cf` is valid while a directive is read.
                        place: unsafe { place(cf) },
                    },
                    None => return refuse(cf, "the zone's name is not UTF-8"),
                },
                _ => return refuse(cf, "\"cache_zone\" needs the name of one zone, or off"),
            };
            block.keys.push(key.to_owned());
            return NGX_CONF_OK;
        }
        let value = match values {
            paths if is_path(key) && paths.iter().all(|path| !path.is_empty()) => {
                let full = |path: &&[u8]| full_name(cf, path);
                let Some(paths) = paths.iter().map(full).collect::<Option<Vec<_>>>() else {
                    return NGX_CONF_ERROR;
                };
                paths.join(" ")
            }
            _ => {
                let Some(values) = values
                    .iter()
                    .map(|value| text(value))
                    .collect::<Option<Vec<_>>>()
                else {
                    return refuse(cf, &format!("the value of \"{key}\" is not UTF-8"));
                };
                values.join(" ")
            }
        };
        if let Err(error) = block.config.set(key, &value) {
            return refuse(cf, &error.to_string());
        }
        block.keys.push(key.to_owned());
        NGX_CONF_OK
    })
}

/// Whether the key names a file, or several.
fn is_path(key: &str) -> bool {
    Config::settings()
        .iter()
        .any(|setting| setting.name() == key && setting.is_path())
}

/// A path as nginx understands it: relative to its own configuration file.
fn full_name(cf: *mut ngx_conf_t, path: &[u8]) -> Option<String> {
    let Ok(path) = CString::new(path) else {
        refuse(cf, "the path holds a NUL");
        return None;
    };
    let mut full = string(path.as_bytes());
    // SAFETY: `cf` is valid while a directive is read, and the path is followed by a NUL, as is required here. nginx puts
    // another string, of the configuration's pool, into the place of one that is relative.
    let full = unsafe {
        if ngx_conf_full_name((*cf).cycle, &raw mut full, 1) != NGX_OK as ngx_int_t {
            return None;
        }
        strings::bytes(&full)
    };
    if let Some(full) = text(full) {
        return Some(full.to_owned());
    }
    refuse(cf, "the path is not UTF-8");
    None
}
