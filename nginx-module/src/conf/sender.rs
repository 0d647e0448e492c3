//! The requirements for a client that presents a token bound to a key: `phantom_token_sender_constraint`,
//! `phantom_token_dpop_window`, `phantom_token_dpop_nonce`, `phantom_token_dpop_uri`,
//! `phantom_token_client_certificate`.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ngx::ffi::ngx_conf_t;
use phantom_token::gateway::sender::{self, Constraint, NONCE_STEP, Nonces, ProofRules};

use super::location::{invalid, once, switch};
use super::{DirectiveError, LocationConf, Value};
use crate::nginx::headers::HeaderName;

/// The settings for sender-constrained tokens.
#[derive(Clone, Default)]
pub struct SenderConfig {
    constraint: Option<Constraint>,
    window: Option<Duration>,
    nonce: Option<bool>,
    uri: Option<Rc<Value>>,
    /// The same, by what `phantom_token_resource` says.
    uri_of_resource: Option<Rc<Value>>,
    certificate: Option<Rc<Value>>,
    /// The merged rules for a proof.
    rules: ProofRules,
}

impl SenderConfig {
    /// The handling of tokens that are bound to a key.
    pub fn constraint(&self) -> Constraint {
        self.constraint.unwrap_or_default()
    }

    /// The rules for a DPoP proof.
    pub fn rules(&self) -> &ProofRules {
        &self.rules
    }

    /// The URI that a DPoP proof must be for, if it is not the one that nginx sees.
    pub fn uri(&self) -> Option<&Value> {
        self.uri.as_deref().or(self.uri_of_resource.as_deref())
    }

    /// The client's certificate as PEM, if nginx does not have it from TLS itself.
    pub fn certificate(&self) -> Option<&Value> {
        self.certificate.as_deref()
    }

    /// Whether a header is read here to learn about the sender.
    pub(super) fn reads(&self, name: &HeaderName) -> bool {
        let values = [self.certificate(), self.uri()].into_iter().flatten();
        values
            .flat_map(Value::headers)
            .any(|header| header.is_same(name))
    }

    /// Notes what clients ask for where the resource has a name here; where it has none, it is that of the level above.
    pub(super) fn follow(&mut self, above: &Self, uri: Option<Value>) {
        self.uri_of_resource = uri.map(Rc::new).or_else(|| above.uri_of_resource.clone());
    }

    /// Takes from the level above what is not set here. Returns whether anything is that decides. `nonces` are
    /// made when they are wanted for the first time.
    pub(super) fn merge(
        &mut self,
        above: &Self,
        nonces: &mut Option<Arc<Nonces>>,
    ) -> Result<bool, &'static str> {
        let own = self.constraint.is_some() || self.window.is_some() || self.nonce.is_some();
        self.constraint = self.constraint.or(above.constraint);
        self.window = self.window.or(above.window);
        self.nonce = self.nonce.or(above.nonce);
        for (own, above) in [
            (&mut self.uri, &above.uri),
            (&mut self.certificate, &above.certificate),
        ] {
            if own.is_none() {
                own.clone_from(above);
            }
        }
        if self.nonce == Some(true) && nonces.is_none() {
            *nonces = Some(Arc::new(Nonces::random(NONCE_STEP)?));
        }
        self.rules = ProofRules {
            window: self.window.unwrap_or(ProofRules::default().window),
            nonces: nonces.clone().filter(|_| self.nonce == Some(true)),
        };
        Ok(own)
    }
}

/// `phantom_token_sender_constraint enforce | require | ignore`
pub fn constraint(
    _: *mut ngx_conf_t,
    location: &mut LocationConf,
    directive: &str,
    values: &[&str],
) -> Result<(), DirectiveError> {
    let constraint = values
        .first()
        .and_then(|name| Constraint::from_name(name))
        .ok_or_else(|| invalid(directive, values, "enforce, require or ignore"))?;
    once(&mut location.sender.constraint, constraint)
}

/// `phantom_token_dpop_window TIME`
pub fn window(
    _: *mut ngx_conf_t,
    location: &mut LocationConf,
    directive: &str,
    values: &[&str],
) -> Result<(), DirectiveError> {
    let text = values.join(" ");
    let window = sender::window(&text).map_err(|why| format!("\"{directive}\" {text:?} {why}"))?;
    once(&mut location.sender.window, window)
}

/// `phantom_token_dpop_nonce on | off`
pub fn nonce(
    _: *mut ngx_conf_t,
    location: &mut LocationConf,
    directive: &str,
    values: &[&str],
) -> Result<(), DirectiveError> {
    once(&mut location.sender.nonce, switch(directive, values)?)
}

/// `phantom_token_dpop_uri VALUE`
pub fn uri(
    cf: *mut ngx_conf_t,
    location: &mut LocationConf,
    _: &str,
    values: &[&str],
) -> Result<(), DirectiveError> {
    let text = values.first().copied().unwrap_or_default();
    let value = Value::compile(cf, text)?;
    once(&mut location.sender.uri, Rc::new(value))
}

/// `phantom_token_client_certificate VALUE`
pub fn certificate(
    cf: *mut ngx_conf_t,
    location: &mut LocationConf,
    _: &str,
    values: &[&str],
) -> Result<(), DirectiveError> {
    let text = values.first().copied().unwrap_or_default();
    let value = Value::compile(cf, text)?;
    once(&mut location.sender.certificate, Rc::new(value))
}
