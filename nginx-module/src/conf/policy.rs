//! What a location asks of a token beyond being active: `phantom_token_scopes`, `phantom_token_scope`.

use std::sync::Arc;

use ngx::ffi::ngx_conf_t;

use super::{Complaint, LocationConf};

/// `phantom_token_scopes SCOPE…` and `phantom_token_scope SCOPE`
pub fn scopes(
    _: *mut ngx_conf_t,
    location: &mut LocationConf,
    directive: &str,
    values: &[&str],
) -> Result<(), Complaint> {
    let mut scopes = location.scopes.take().unwrap_or_default();
    for value in values {
        Arc::make_mut(&mut scopes)
            .add(value)
            .map_err(|error| format!("invalid value \"{value}\" in \"{directive}\": {error}"))?;
    }
    location.scopes = Some(scopes);
    Ok(())
}
