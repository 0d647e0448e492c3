//! The directive `phantom_token_resource_metadata`: a location that publishes protected resource metadata (RFC 9728
//! §3), for clients that have no token yet.

use ngx::ffi::{
    NGX_HTTP_GET, NGX_HTTP_HEAD, NGX_HTTP_INTERNAL_SERVER_ERROR, NGX_HTTP_OPTIONS,
    ngx_http_request_t, ngx_int_t,
};

use crate::conf::LocationConf;
use crate::nginx::panic::contained;
use crate::nginx::request::Request;
use crate::phases::respond;

const FAILED: ngx_int_t = NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t;

/// The `Cache-Control` of the metadata, which change only with the configuration.
const CACHE_CONTROL: &[u8] = b"public, max-age=3600";

/// The CORS headers of each response: the metadata are public, so scripts of any origin may read them (Fetch, "CORS protocol").
const FOR_ALL: [(&[u8], &[u8]); 1] = [(b"Access-Control-Allow-Origin", b"*")];
const TO_PREFLIGHT: [(&[u8], &[u8]); 3] = [
    (b"Access-Control-Allow-Methods", b"GET, HEAD"),
    (b"Access-Control-Allow-Headers", b"*"),
    (b"Access-Control-Max-Age", b"3600"),
];

/// The content handler.
pub unsafe extern "C" fn handler(r: *mut ngx_http_request_t) -> ngx_int_t {
    contained(FAILED, || {
        // SAFETY: nginx calls this with a live request, and the handle ends with the call.
        let Some(request) = (unsafe { Request::new(r) }) else {
            return FAILED;
        };
        // Without a document the configuration is refused.
        let Some(document) = LocationConf::of(request).and_then(|conf| conf.resource.document())
        else {
            return FAILED;
        };
        let push = |headers: &[(&'static [u8], &'static [u8])]| {
            headers
                .iter()
                .all(|(name, value)| respond::push_header(request, name, value).is_some())
        };
        if !push(&FOR_ALL) {
            return FAILED;
        }
        match request.method() {
            NGX_HTTP_GET | NGX_HTTP_HEAD if push(&[(b"Cache-Control", CACHE_CONTROL)]) => {
                respond::send_error(request, 200, document)
            }
            NGX_HTTP_OPTIONS if push(&TO_PREFLIGHT) => respond::send_error(request, 204, ""),
            NGX_HTTP_GET | NGX_HTTP_HEAD | NGX_HTTP_OPTIONS => FAILED,
            _ => respond::refuse_method(request, b"GET, HEAD, OPTIONS"),
        }
    })
}
