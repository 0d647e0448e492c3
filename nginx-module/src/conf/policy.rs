//! The requirements for an active token: `phantom_token_scopes`, `phantom_token_scope`,
//! `phantom_token_audience`, `phantom_token_issuer`, `phantom_token_client`, `phantom_token_require`,
//! `phantom_token_max_age`, `phantom_token_acr`.

use std::sync::Arc;

use ngx::ffi::ngx_conf_t;
use phantom_token::gateway::requirements::Expected;

use super::{DirectiveError, LocationConf, MainConf, Value};

/// Directives that may stand there several times: what they say adds up.
const SEVERAL: [&str; 3] = ["scopes", "scope", "require"];

/// All directives whose names are those of the policy's keys.
pub fn part(
    cf: *mut ngx_conf_t,
    location: &mut LocationConf,
    directive: &str,
    values: &[&str],
) -> Result<(), DirectiveError> {
    let key = directive.trim_start_matches("phantom_token_");
    if !SEVERAL.contains(&key) {
        if location.seen.iter().any(|seen| seen == key) {
            return Err(DirectiveError::Duplicate);
        }
        location.seen.push(key.to_owned());
    }
    let requirements = Arc::make_mut(location.requirements.get_or_insert_default());
    match (key, values) {
        ("require", [path, values @ ..]) => {
            let values = values
                .iter()
                .map(|value| expected(cf, value))
                .collect::<Result<_, _>>()?;
            requirements
                .add_requirement(path, values)
                .map_err(|error| format!("{error} in \"{directive}\""))?;
        }
        _ => requirements
            .set(key, values)
            .map_err(|error| format!("invalid value in \"{directive}\": {error}"))?,
    }
    Ok(())
}

/// Compiles the value that a claim is compared with. nginx's variables may stand in a text, but not in a regular expression:
/// a value that a client sends must not become one.
fn expected(cf: *mut ngx_conf_t, text: &str) -> Result<Expected, DirectiveError> {
    if !text.starts_with('~') && text.contains('$') {
        let value = Value::compile(cf, text)?;
        if !value.is_constant() {
            // SAFETY: `cf` is what nginx gave to the handler of the directive; the main configuration was made before
            // the first directive was read, and nobody else looks at it meanwhile.
            let main = unsafe { MainConf::of_conf(cf).map(|mut main| main.as_mut()) };
            let values = &mut main.ok_or("it is outside of http")?.values;
            values.push(value);
            return Ok(Expected::Slot(values.len() - 1));
        }
    }
    Expected::parse(text)
        .map_err(|error| format!("invalid value in \"phantom_token_require\": {error}").into())
}
