//! The directive `phantom_token_status`: a location that shows metrics and the status page.
//!
//! It is a content handler, so access rules of the location apply. The core crate formats the response; this file gathers
//! the numbers.

use ngx::ffi::{
    NGINX_VERSION, NGX_HTTP_GET, NGX_HTTP_HEAD, NGX_HTTP_INTERNAL_SERVER_ERROR, ngx_http_request_t,
    ngx_int_t,
};
use phantom_token::clock;
use phantom_token::gateway::outcome::Outcome;
use phantom_token::gateway::status::{self, ProviderStatus, RequestedFormat, Snapshot, ZoneStatus};

use crate::conf::MainConf;
use crate::nginx::panic::contained;
use crate::nginx::request::Request;
use crate::phases::respond;
use crate::process::Process;
use crate::process::worker;

const FAILED: ngx_int_t = NGX_HTTP_INTERNAL_SERVER_ERROR as ngx_int_t;

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
        let query = String::from_utf8_lossy(request.query());
        let accept = request.header_values(b"accept");
        let asked = match RequestedFormat::of(&query, &String::from_utf8_lossy(&accept)) {
            Ok(asked) => asked,
            Err(error) => {
                // Words of ours, without quotes and backslashes.
                let body =
                    format!(r#"{{"error":"invalid_request","error_description":"{error}"}}"#);
                return respond::send_error(request, 400, &body);
            }
        };
        let Some(main) = MainConf::of(request) else {
            return FAILED;
        };
        let rendered = status::render(&snapshot(main, Process::of(request)), asked);
        for (name, value) in &rendered.headers {
            let pushed = request
                .copy(value.as_bytes())
                .and_then(|value| respond::push_header(request, name.as_bytes(), value));
            if pushed.is_none() {
                return FAILED;
            }
        }
        respond::send_ok(request, rendered.content_type, &rendered.body)
    })
}

/// Gathers the numbers of all workers.
fn snapshot(main: &MainConf, process: Option<&Process>) -> Snapshot {
    let mut snapshot = Snapshot {
        now: clock::now().unix,
        versions: vec![
            ("module", env!("CARGO_PKG_VERSION").to_owned()),
            ("core", status::VERSION.to_owned()),
            ("nginx", nginx_version()),
        ],
        outcomes: Outcome::WORDS,
        ..Snapshot::default()
    };
    snapshot.since = snapshot.now;
    if let Some(metrics) = process.and_then(|process| process.metrics.as_deref()) {
        // The numbers of other workers are a second old at most; those of this one are current.
        metrics.publish();
        snapshot.since = metrics.metrics().since();
        snapshot.processes = metrics.metrics().processes() as u64;
        for (index, defined) in main.providers.iter().enumerate() {
            let Some(sum) = metrics.sum(index) else {
                continue;
            };
            let provider = &defined.provider;
            let size = u64::try_from(provider.cache_size()).unwrap_or(u64::MAX);
            snapshot.providers.push(ProviderStatus {
                name: provider.name().to_owned(),
                zone: defined.zone.as_ref().map(|zone| zone.name().to_owned()),
                capacity: size.saturating_mul(sum.processes),
                sum,
            });
        }
    }
    if worker::shares_memory() {
        snapshot.zones = main
            .zones
            .iter()
            .filter_map(|zone| {
                Some(ZoneStatus {
                    name: zone.name().to_owned(),
                    counts: zone.memory()?.counts(),
                })
            })
            .collect();
    }
    snapshot
}

/// The version of nginx that the module was built for; no other loads it.
fn nginx_version() -> String {
    NGINX_VERSION.to_string_lossy().into_owned()
}
