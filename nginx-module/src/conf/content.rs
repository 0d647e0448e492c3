//! Content that the module serves: `phantom_token_purge`, `phantom_token_jwks`, `phantom_token_status`,
//! `phantom_token_resource_metadata`.

use std::ffi::c_char;

use ngx::core::{NGX_CONF_ERROR, NGX_CONF_OK};
use ngx::ffi::{NGX_LOG_EMERG, ngx_conf_t, ngx_http_core_loc_conf_t, ngx_http_handler_pt};
use phantom_token::gateway::purge::MAX_FORM_LENGTH;

use super::{DirectiveError, LocationConf, MainConf, Purpose, complain, place, remember_use};
use crate::nginx::bits;
use crate::nginx::core_location;

/// The content that the module serves; for content of a provider, with the provider's index in
/// [`MainConf::providers`](super::MainConf::providers).
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Forgets its tokens.
    Purge(usize),
    /// Its keys.
    Jwks(usize),
    /// The module's status.
    Status,
    /// The resource metadata (RFC 9728).
    Metadata,
}

impl Content {
    fn directive(self) -> &'static str {
        match self {
            Content::Purge(_) => "phantom_token_purge",
            Content::Jwks(_) => "phantom_token_jwks",
            Content::Status => "phantom_token_status",
            Content::Metadata => "phantom_token_resource_metadata",
        }
    }
}

/// The handlers of the locations whose content the module generates.
#[derive(Clone, Copy, Default)]
pub struct ContentHandlers {
    /// `phantom_token_jwks`
    pub jwks: ngx_http_handler_pt,
    /// `phantom_token_resource_metadata`
    pub metadata: ngx_http_handler_pt,
    /// `phantom_token_purge`
    pub purge: ngx_http_handler_pt,
    /// `phantom_token_status`
    pub status: ngx_http_handler_pt,
}

impl ContentHandlers {
    fn of(&self, content: Content) -> ngx_http_handler_pt {
        match content {
            Content::Purge(_) => self.purge,
            Content::Jwks(_) => self.jwks,
            Content::Status => self.status,
            Content::Metadata => self.metadata,
        }
    }
}

/// `phantom_token_purge NAME`
pub fn purge(
    cf: *mut ngx_conf_t,
    location: &mut LocationConf,
    directive: &str,
    values: &[&str],
) -> Result<(), DirectiveError> {
    serve(cf, location, directive, values, Content::Purge)
}

/// `phantom_token_jwks NAME`
pub fn jwks(
    cf: *mut ngx_conf_t,
    location: &mut LocationConf,
    directive: &str,
    values: &[&str],
) -> Result<(), DirectiveError> {
    serve(cf, location, directive, values, Content::Jwks)
}

/// `phantom_token_status`
pub fn status(
    cf: *mut ngx_conf_t,
    location: &mut LocationConf,
    directive: &str,
    _values: &[&str],
) -> Result<(), DirectiveError> {
    handle(cf, location, directive, Content::Status)?;
    location.content = Some(Content::Status);
    Ok(())
}

/// Sets the content that a location serves for a named provider.
fn serve(
    cf: *mut ngx_conf_t,
    location: &mut LocationConf,
    directive: &str,
    values: &[&str],
    content: fn(usize) -> Content,
) -> Result<(), DirectiveError> {
    let name = match values {
        [""] | ["off"] | [] => {
            return Err(format!("\"{directive}\" needs the name of a provider").into());
        }
        [name, ..] => name,
    };
    // Which provider it is will be known later; the rest does not depend on it.
    handle(cf, location, directive, content(0))?;
    // SAFETY: `cf` is what nginx gave to the handler of the directive.
    unsafe { remember_use(cf, location, name, Purpose::Serve(content)) }
}

/// Makes the module the one that handles the location.
pub(super) fn handle(
    cf: *mut ngx_conf_t,
    location: &mut LocationConf,
    directive: &str,
    content: Content,
) -> Result<(), DirectiveError> {
    match &location.content_at {
        Some((other, _)) if *other == directive => return Err(DirectiveError::Duplicate),
        Some((other, place)) => {
            return Err(format!(
                "\"{directive}\" is in a location that has \"{other}\" in {place}: give it one of its own"
            )
            .into());
        }
        None => {}
    }
    // SAFETY: `cf` is what nginx gave to the handler of a directive inside a location, whose contexts it has.
    unsafe {
        let (Some(core), Some(main)) = (core_location(cf).as_mut(), MainConf::of_conf(cf)) else {
            return Err("it is outside of a location".into());
        };
        core.handler = (*main.as_ptr()).handlers.of(content);
        location.content_at = Some((content.directive(), place(cf).into()));
    }
    Ok(())
}

/// Makes a location that serves something ready for it.
pub fn merge(
    cf: *mut ngx_conf_t,
    above: &LocationConf,
    conf: &mut LocationConf,
    core: &mut ngx_http_core_loc_conf_t,
    handlers: &ContentHandlers,
) -> *mut c_char {
    // `if` and `limit_except` are locations within one, whose handler theirs is unless they have their own.
    // SAFETY: a reference is a valid pointer.
    let is_within = unsafe { bits::core_location::noname(core) } != 0;
    if is_within && conf.content.is_none() && core.handler.is_none() {
        conf.content = above.content;
        conf.content_at.clone_from(&above.content_at);
        conf.resource.inherit_document(&above.resource);
        core.handler = conf.content.and_then(|content| handlers.of(content));
    }
    let Some(content) = conf.content else {
        return NGX_CONF_OK;
    };
    let is_ours = core
        .handler
        .zip(handlers.of(content))
        .is_some_and(|(handler, ours)| std::ptr::fn_addr_eq(handler, ours));
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
