//! The directive `phantom_token_jwks`: a location that publishes the keys with which the gateway signs a provider's
//! JWTs (RFC 7517 §5).

use ngx::ffi::{
    NGX_HTTP_GET, NGX_HTTP_HEAD, NGX_HTTP_INTERNAL_SERVER_ERROR, ngx_http_request_t, ngx_int_t,
};

use crate::conf::Content;
use crate::conf::LocationConf;
use crate::conf::MainConf;
use crate::nginx::panic::contained;
use crate::nginx::request::Request;
use crate::phases::respond;

const FAILED: ngx_int_t = NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t;

/// The `Cache-Control` of the JWKS. Short enough that a key which is published before it signs is known everywhere a few
/// minutes later, and long enough to cost nothing.
const CACHE_CONTROL: &[u8] = b"public, max-age=300";

/// The content handler.
pub unsafe extern "C" fn handler(r: *mut ngx_http_request_t) -> ngx_int_t {
    contained(FAILED, || {
        // SAFETY: nginx calls this with a live request, and the handle ends with the call.
        let Some(request) = (unsafe { Request::new(r) }) else {
            return FAILED;
        };
        if !matches!(request.method(), NGX_HTTP_GET | NGX_HTTP_HEAD) {
            return respond::refuse_method(request, b"GET, HEAD");
        }
        let provider = LocationConf::of(request)
            .and_then(|conf| match conf.content {
                Some(Content::Jwks(provider)) => Some(provider),
                _ => None,
            })
            .zip(MainConf::of(request))
            .and_then(|(provider, main)| main.providers.get(provider));
        // Without keys the configuration is refused.
        let Some(keys) = provider.and_then(|defined| defined.provider.jwks()) else {
            return FAILED;
        };
        if respond::push_header(request, b"Cache-Control", CACHE_CONTROL).is_none() {
            return FAILED;
        }
        respond::send_error(request, 200, keys)
    })
}
