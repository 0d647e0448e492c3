//! The cache key of a verdict where a location introspects, besides the location and the token.
//!
//! Such a location may ask anybody, as anybody: by what is written in it and around it, by the host that the client has
//! asked for, by what `set` has set. So all of that names the verdict, unless `phantom_token_cache_key` says what does.
//! The location may also see the parts of the request that it is sent ([`Call::may_carry`](phantom_token::Call::may_carry)), and the
//! connection.

use phantom_token::token::{Context, ContextBuilder};

use crate::conf::{LocationConf, MainConf};
use crate::nginx::request::Request;
use crate::process::Process;

/// The context of the verdict on a request's token: `Some(None)` where a provider asks by itself. `None` when there is no
/// memory. Allocates nothing unless `phantom_token_cache_key` does.
pub fn of(request: Request, conf: &LocationConf, provider: usize) -> Option<Option<Context>> {
    let main = MainConf::of(request)?;
    if main.providers.get(provider)?.introspection.is_none() {
        return Some(None);
    }
    if let Some(key) = conf.cache_key() {
        let mut context = ContextBuilder::default();
        context.add(b"key").add(key.evaluate(request)?);
        return Some(Some(context.finish()));
    }
    Some(Some(default(request, main)))
}

fn default(request: Request, main: &MainConf) -> Context {
    // It begins with what is written.
    let mut context: ContextBuilder = main.text.clone().unwrap_or_default();
    context
        .add(request.host())
        .add(request.host_header())
        .add(request.tls_name())
        .add(request.port());
    for index in Process::of(request).map_or(&[][..], |process| &process.set_variables) {
        match request.indexed_variable(*index) {
            Some(value) => context.add(b"set").add(value),
            None => context.add(b""),
        };
    }
    context.finish()
}
